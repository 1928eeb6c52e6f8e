"""Who looked at whose data, decided, exported, erased, came in or was kept out: a chain of records, and its copies."""
