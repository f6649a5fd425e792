from tests.db.servers import cluster

__all__ = ["cluster"]
