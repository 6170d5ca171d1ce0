"""Modules image -> features by stage, which several papers build upon."""
