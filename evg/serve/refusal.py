"""A request that is not answered, and why."""

from evg.errors import UserError


class Refusal(UserError):
    """What the client did wrong, or must wait for.

    Args:
        status: of HTTP.
        detail: for the client's user.
    """

    def __init__(self, status: int, detail: str):
        super().__init__(detail)
        self.status, self.detail = status, detail


def as_refusal(error: UserError, status: int = 422) -> Refusal:
    """A user's mistake as an answer."""
    return error if isinstance(error, Refusal) else Refusal(status, str(error))
