"""``POST /predict``: one phrase and one image in, heatmap, regions and probability out."""

from __future__ import annotations

import base64
import threading

import cv2
import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from model.values import Grounding, Heatmap, Query, State
from nlp.phrases import Phrase, Reading
from plugin.errors import InputError
from plugin.page.document import ModelPart, RegionPart, model_part, region_part
from plugin.pipeline import query_of
from plugin.ports import Grounder
from plugin.service.parts import Services
from plugin.service.pictures import decoded, pixels_of
from plugin.service.problems import RESPONSES

MAX_TEXT = 20_000


class PredictRequest(BaseModel):
    """A phrase and an image."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, max_length=MAX_TEXT, examples=["Moderate left pleural effusion."])
    image: str = Field(
        min_length=1,
        description="Base64 of a frontal chest radiograph: a DICOM file, or PNG or JPEG, stored upright.",
        examples=["iVBORw0KGgoAAAANSUhEUg..."],
    )


class Prediction(BaseModel):
    """Where the model places the phrase."""

    heatmap: str = Field(description="Base64 of an 8-bit PNG of the image's size: 255 is probability 1.")
    regions: tuple[RegionPart, ...]
    probability: float = Field(ge=0, le=1, description="That the image shows the finding.", examples=[0.87])
    state: State
    threshold: float = Field(description="Probability from which a pixel belongs to a region.")
    model: ModelPart
    phrase: str = Field(description="The part of the text that the model was asked about.")
    reason: str | None = Field(description="Why nothing was found; null when something was.")


def predict_router(services: Services) -> APIRouter:
    """The route over *services*; one image at a time, so that memory stays bounded."""
    router = APIRouter(tags=["model"])
    one_at_a_time = threading.Lock()

    @router.post("/predict", responses=RESPONSES, summary="Ground one phrase on one image")
    def predict(request: PredictRequest) -> Prediction:
        """The first finding phrase of *text* that can have a place is grounded; nothing is stored."""
        if not request.text.strip():
            raise InputError('text is empty; a finding phrase was expected, such as "left pleural effusion".')
        with one_at_a_time:
            grounder = services.grounder()
            pixels, orientation = pixels_of(decoded(request.image), services.read_dicom)
            phrase = asked(services.read_report(request.text))
            if phrase is not None and not phrase.groundable:
                grounding = refused(phrase)
            else:
                query = (
                    query_of(phrase) if phrase else Query(request.text, finding=" ".join(request.text.lower().split()))
                )
                (grounding,) = grounder.ground(pixels, orientation, (query,))
        rows, columns = pixels.shape
        return prediction_of(grounding, rows=rows, columns=columns, grounder=grounder)

    return router


def asked(reading: Reading) -> Phrase | None:
    """The phrase to ask about: the first groundable one, else the first, else None."""
    return next((phrase for phrase in reading.phrases if phrase.groundable), next(iter(reading.phrases), None))


def refused(phrase: Phrase) -> Grounding:
    """The answer for a phrase that no region may be lit for."""
    return Grounding(query_of(phrase), State.NOT_GROUNDABLE, 0.0, reason=phrase.not_groundable_reason)


def prediction_of(grounding: Grounding, *, rows: int, columns: int, grounder: Grounder) -> Prediction:
    """*grounding* on an image of *rows* x *columns* as it is answered."""
    card = grounder.card
    return Prediction(
        heatmap=base64.b64encode(heatmap_png(grounding.heatmap, rows=rows, columns=columns)).decode(),
        regions=tuple(region_part(region, rows=rows, columns=columns, spacing_mm=None) for region in grounding.regions),
        probability=float(grounding.probability),
        state=grounding.state,
        threshold=card.threshold,
        model=model_part(card),
        phrase=grounding.query.text,
        reason=grounding.reason,
    )


def heatmap_png(heatmap: Heatmap | None, *, rows: int, columns: int) -> bytes:
    """*heatmap* as an 8-bit PNG of *rows* x *columns*; black when there is none."""
    values = np.zeros((rows, columns), np.float32) if heatmap is None else heatmap.on_source()
    _, encoded = cv2.imencode(".png", np.rint(values * 255).astype(np.uint8))
    return encoded.tobytes()
