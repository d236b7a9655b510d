"""A description bank on disk: actions and their descriptions, and what else is known of actions."""

from .bank import Action, Bank, read_actions, verify_bank

__all__ = ["Action", "Bank", "read_actions", "verify_bank"]
