"""Loss along paths between models: profiles, barriers and basins."""
