"""warmdiff: train and sample blur-noise mixture diffusion models, on top of `warmops`."""

from warmdiff.preconditioning import Preconditioning, Prediction, RawPrediction, Scalings
from warmdiff.process import BlurNoiseProcess
from warmdiff.sampling import Churn, SamplingError, State, generate, sample
from warmdiff.spectrum import DataSpectrum

__all__ = [
    "BlurNoiseProcess",
    "Churn",
    "DataSpectrum",
    "Preconditioning",
    "Prediction",
    "RawPrediction",
    "SamplingError",
    "Scalings",
    "State",
    "generate",
    "sample",
]
