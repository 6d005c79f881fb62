"""The bundle directory: its manifest, opening with checks, writing atomically."""

from dspark_engines.bundle.caches import CacheSpec
from dspark_engines.bundle.drafters import ENGINELESS, NGRAM, NONE, all_drafters, joined_taps, widest_block
from dspark_engines.bundle.files import (
    check_file_place,
    check_folder,
    output_error,
    replace_file,
    save_model,
    write_file,
)
from dspark_engines.bundle.hashing import record_file, sha256_file
from dspark_engines.bundle.identity import engine_identity
from dspark_engines.bundle.leftovers import remove_leftovers
from dspark_engines.bundle.manifest import (
    NO_DRAFTER,
    BackendInfo,
    DrafterInfo,
    DrafterSection,
    DraftVocabulary,
    EngineInfo,
    FileRecord,
    GraphInfo,
    GraphName,
    Limits,
    Manifest,
    Precision,
    RecipeInfo,
    Role,
    StopToken,
    TargetInfo,
    TensorInfo,
)
from dspark_engines.bundle.open import MANIFEST, Bundle, check_hash, open_bundle
from dspark_engines.bundle.vocabulary import load_vocabulary, save_vocabulary
from dspark_engines.bundle.write import atomic_directory, check_destination, check_room

__all__ = [
    "ENGINELESS",
    "MANIFEST",
    "NGRAM",
    "NONE",
    "NO_DRAFTER",
    "BackendInfo",
    "Bundle",
    "CacheSpec",
    "DraftVocabulary",
    "DrafterInfo",
    "DrafterSection",
    "EngineInfo",
    "FileRecord",
    "GraphInfo",
    "GraphName",
    "Limits",
    "Manifest",
    "Precision",
    "RecipeInfo",
    "Role",
    "StopToken",
    "TargetInfo",
    "TensorInfo",
    "all_drafters",
    "atomic_directory",
    "check_destination",
    "check_file_place",
    "check_folder",
    "check_hash",
    "check_room",
    "engine_identity",
    "joined_taps",
    "load_vocabulary",
    "open_bundle",
    "output_error",
    "record_file",
    "remove_leftovers",
    "replace_file",
    "save_model",
    "save_vocabulary",
    "sha256_file",
    "widest_block",
    "write_file",
]
