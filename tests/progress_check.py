"""A progress report that checks the numbers it gets."""


def check_progress(step: str, done: int, total: int) -> None:
    assert step
    assert 0 < done <= total
