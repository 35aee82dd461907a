"""A progress report that checks the numbers it gets."""


def check_progress(what: str, done: int, total: int) -> None:
    assert what
    assert 0 < done <= total
