"""API keys: long-lived credentials for programs, that can be listed, rotated and revoked."""

from fastapi_kit.auth.api_keys.info import ApiKeyInfo, NewApiKey
from fastapi_kit.auth.api_keys.memory import MemoryApiKeyStore
from fastapi_kit.auth.api_keys.service import ApiKeys
from fastapi_kit.auth.api_keys.store import ApiKeyRecord, ApiKeyStore

__all__ = ["ApiKeyInfo", "ApiKeyRecord", "ApiKeyStore", "ApiKeys", "MemoryApiKeyStore", "NewApiKey"]
