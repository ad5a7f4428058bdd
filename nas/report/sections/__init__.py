"""The sections of a report. Each of them supports missing results."""
