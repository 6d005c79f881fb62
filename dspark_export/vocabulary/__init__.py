"""Which of the target's tokens a drafter shall draft: those that the target says most."""

from dspark_export.vocabulary.choosing import MEASURED, Drafting, VocabularyChoice, choose_vocabulary, measure_drafting
from dspark_export.vocabulary.reading import read_vocabulary

__all__ = ["MEASURED", "Drafting", "VocabularyChoice", "choose_vocabulary", "measure_drafting", "read_vocabulary"]
