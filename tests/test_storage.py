"""Files that appear whole or not at all."""

import pytest
import torch
from conftest import ROOT
from mmengine.runner.checkpoint import save_checkpoint

from evg.engine.storage import load_checkpoint_file
from evg.errors import UserError
from evg.files import atomic_write


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / 'deep' / 'a.txt'
    with atomic_write(path, 'w') as file:
        file.write('old')
    with pytest.raises(RuntimeError, match='stop'), atomic_write(path, 'w') as file:
        file.write('new')
        raise RuntimeError('stop')
    assert path.read_text() == 'old'
    assert [p.name for p in path.parent.iterdir()] == ['a.txt']


def test_mmengine_checkpoints_are_written_whole(tmp_path, monkeypatch):
    path = tmp_path / 'model.pth'
    save_checkpoint({'state_dict': {'w': torch.ones(3)}}, str(path))

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('os.fsync', full)
    with pytest.raises(OSError, match='No space'):
        save_checkpoint({'state_dict': {'w': torch.zeros(3)}}, str(path))
    monkeypatch.undo()
    assert load_checkpoint_file(str(path))['state_dict']['w'].tolist() == [1, 1, 1]
    assert [p.name for p in tmp_path.iterdir()] == ['model.pth']


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(UserError, match=r'list\.pth holds a list'):
        load_checkpoint_file(str(tmp_path / 'list.pth'))
    with pytest.raises(UserError, match=r'there are .*list\.pth'):
        load_checkpoint_file(str(tmp_path / 'lst.pth'))


def test_a_text_is_refused_in_our_own_words(tmp_path):
    # torch's text would advise weights_only=False, which executes what is in the file.
    (tmp_path / 'model.pth').write_text((ROOT / 'README.md').read_text(encoding='utf-8'), encoding='utf-8')
    with pytest.raises(
        UserError, match=r'not a whole checkpoint of plain tensors and values \(UnpicklingError\)'
    ) as caught:
        load_checkpoint_file(str(tmp_path / 'model.pth'))
    assert 'weights_only' not in str(caught.value)
