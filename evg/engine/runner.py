"""mmengine's runner with a shorter log."""

from mmengine.runner import Runner


class GazeRunner(Runner):
    """mmengine's runner; it names the hooks in one line, not in a hundred, in which warnings would be lost."""

    def get_hooks_info(self) -> str:
        """The hooks in the order in which they are called."""
        return ', '.join(type(hook).__name__ for hook in self.hooks)
