"""Log-ins that last: refresh tokens, log-out and revocation.

The stores are in modules of their own, since each needs its package: `memory`, `sqlalchemy` and `redis`.
"""

from fastapi_kit.auth.sessions.service import Sessions, TokenPair
from fastapi_kit.auth.sessions.store import SessionRecord, SessionState, SessionStore

__all__ = ["SessionRecord", "SessionState", "SessionStore", "Sessions", "TokenPair"]
