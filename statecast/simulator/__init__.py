"""An exchange to run at home: a seeded ledger behind a venue's own REST and websocket protocol."""
