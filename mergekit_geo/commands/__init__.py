"""What each command does: the public functions `geo.soup`, `geo.barrier`, ..."""
