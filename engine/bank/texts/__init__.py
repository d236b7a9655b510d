"""What else is known of actions: synonyms, prompts, sub-texts, entities, definitions."""
