"""Base models for what an API takes in and gives out, and the types that most of them need."""

from fastapi_kit.schemas.models import (
    CAMEL_CASE,
    CreateModel,
    InputModel,
    OutputModel,
    ReadModel,
    Timestamps,
    UpdateModel,
)
from fastapi_kit.schemas.passwords import PasswordPolicy, StrongPassword
from fastapi_kit.schemas.types import ExactDecimal, Money, Omittable, ShortText, Username, UTCDateTime

__all__ = [
    "CAMEL_CASE",
    "CreateModel",
    "ExactDecimal",
    "InputModel",
    "Money",
    "Omittable",
    "OutputModel",
    "PasswordPolicy",
    "ReadModel",
    "ShortText",
    "StrongPassword",
    "Timestamps",
    "UTCDateTime",
    "UpdateModel",
    "Username",
]
