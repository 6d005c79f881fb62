"""What this machine is: its processor, and how much of it this process may use."""

from dspark_engines.machine.cores import usable_cores
from dspark_engines.machine.mounts import unescape_mount
from dspark_engines.machine.processor import instruction_set, processor_name

__all__ = ["instruction_set", "processor_name", "unescape_mount", "usable_cores"]
