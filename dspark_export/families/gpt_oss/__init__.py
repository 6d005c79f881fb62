"""gpt-oss."""

from dspark_export.families.gpt_oss.family import GptOssFamily

__all__ = ["GptOssFamily"]
