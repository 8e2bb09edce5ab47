"""Which environments are served, and which of them a program runs in. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.environments import DEFAULT
from crucible.errors import InputError
from crucible.executor.languages import languages_of
from crucible.validation import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crucible.environments import Environment
    from crucible.executor.languages import Language


class ServedEnvironments:
    """The environments that programs may ask for, in the order in which one is chosen for them."""

    def __init__(self, environments: Sequence[Environment] = (DEFAULT,)) -> None:
        self._environments = {one.name: one for one in environments}
        # The first environment with the language, for requests that name none.
        self._usual: dict[str, tuple[Environment, Language]] = {}
        self._named: dict[tuple[str, str], tuple[Environment, Language]] = {}
        for environment in environments:
            for word, language in _words_of(environment).items():
                self._usual.setdefault(word, (environment, language))
                self._named[environment.name, word] = environment, language

    def __iter__(self) -> Iterator[Environment]:
        return iter(self._environments.values())

    def find(self, language: str, environment: str | None = None) -> tuple[Environment, Language]:
        """The environment and the language of a program.

        Args:
            language: a name or an alias.
            environment: None takes the first one with that language.

        Raises:
            InputError: naming ``environment`` where that is unknown, else ``language``.
        """
        found = (
            self._usual.get(language)
            if environment is None
            else self._named.get((environment, language))
        )
        if found is not None:
            return found
        if environment is not None and environment not in self._environments:
            known = ", ".join(self._environments)
            raise InputError(
                "environment", f"{quoted(environment)} is not served; served are {known}"
            )
        raise InputError("language", self._unknown(language, environment))

    def languages(self) -> dict[str, Language]:
        """Every language, by name, as a program gets it that names no environment."""
        found: dict[str, Language] = {}
        for environment in self:
            for name, language in languages_of(environment).items():
                found.setdefault(name, language)
        return found

    def having(self, language: str) -> tuple[str, ...]:
        """Names of the environments with a language."""
        return tuple(one.name for one in self if language in languages_of(one))

    def _unknown(self, language: str, environment: str | None) -> str:
        shown = quoted(language)
        if environment is None:
            return f"{shown} is unknown; known are {', '.join(self.languages())}"
        elsewhere = [name for name, word in self._named if word == language]
        if elsewhere:
            return f"{shown} is not in {quoted(environment)}; it is in {', '.join(elsewhere)}"
        known = ", ".join(languages_of(self._environments[environment]))
        return f"{shown} is unknown; {quoted(str(environment))} has {known}"


def _words_of(environment: Environment) -> dict[str, Language]:
    """The languages of an environment by every word for them; a name goes before an alias."""
    languages = languages_of(environment)
    aliases = {alias: one for one in languages.values() for alias in one.aliases}
    return {**aliases, **languages}
