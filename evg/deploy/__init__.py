"""From a checkpoint to a device: export, Ascend tool chain, and a runtime that needs no torch."""
