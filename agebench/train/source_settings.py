"""What else a run learns from than its own data set: further sets, and a teacher's answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExtraData:
    """A further data set, all pictures of which are trained on and none validated on.

    Attributes:
        dataset: name with options, as for `agebench compare`, such as "fairface part=train".
        root: where it lies; "" for a set that brings its own pictures.
        detector: finds the faces; "aligned" for chips.
        share: share of its pictures that is used, drawn once by the run's seed.
        label_weight: weight of its labels in the loss, 0 to 1; below 1 for labels that are often
            wrong, 0 to learn from the teacher's answers alone.
    """

    dataset: str
    root: str = ""
    detector: str = "aligned"
    share: float = 1.0
    label_weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share is above 0 up to 1, got {self.share}")
        if not 0 <= self.label_weight <= 1:
            raise ValueError(f"label_weight is from 0 to 1, got {self.label_weight}")


@dataclass(frozen=True, slots=True)
class TeacherSettings:
    """Answers of other networks to the training pictures, learned beside the labels.

    Attributes:
        file: the answers, as `benchmarks/teacher_answers.py` writes them; "" for none.
        weight: share of the loss that is theirs where a picture has an answer, above 0 up to 1;
            the labels have the rest.
    """

    file: str = ""
    weight: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise ValueError(f"weight is above 0 up to 1, got {self.weight}")
