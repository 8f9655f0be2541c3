"""A stage that is stopped in the middle of its work, as by Ctrl-C."""


def stop_at(monkeypatch, owner, name, number):
    """Let one call of a function end the work; return the calls so far, a list that grows.

    Args:
        monkeypatch: Puts the function back after the test.
        owner: The module or class it is looked up in.
        name: Its name there.
        number: The call that ends the work, counted from 1; those after it work again.
    """
    function, calls = getattr(owner, name), []

    def stopping(*arguments, **settings):
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return function(*arguments, **settings)

    monkeypatch.setattr(owner, name, stopping)
    return calls
