"""mmengine's runner with a shorter log, and the model in it."""

from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner


class GazeRunner(Runner):
    """mmengine's runner; it names the hooks in one line, not in a hundred, in which warnings would be lost."""

    def get_hooks_info(self) -> str:
        """The hooks in the order in which they are called."""
        return ', '.join(type(hook).__name__ for hook in self.hooks)


def bare_model(model: Any) -> Any:
    """The estimator itself: in several processes the runner's model wraps it."""
    return model.module if is_model_wrapper(model) else model
