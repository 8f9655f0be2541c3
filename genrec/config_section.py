"""What all sections of the recipe share: how a key is declared and what is refused."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def setting(default: Any, help: str, unit: str = "", **limits: Any) -> Any:  # noqa: ANN401
    """Declare one key of the recipe: its default, one line of help, its unit and its limits."""
    extra: Any = {"unit": unit} if unit else None
    if isinstance(default, list | dict):
        return Field(
            default_factory=lambda: type(default)(default),
            description=help,
            json_schema_extra=extra,
            **limits,
        )
    return Field(default, description=help, json_schema_extra=extra, **limits)


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, numbers are finite, values are frozen."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )
