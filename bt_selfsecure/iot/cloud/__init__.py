"""The cloud server: what gateways bring is kept in SQL and shown by REST and on a page."""
