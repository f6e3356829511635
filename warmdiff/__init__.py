"""warmdiff: train and sample blur-noise mixture diffusion models, on top of `warmops`."""

from warmdiff.config import TrainConfig, load_config
from warmdiff.data import open_images
from warmdiff.denoiser import Denoiser, load
from warmdiff.network import NetworkConfig, WarmNet
from warmdiff.preconditioning import Preconditioning, Prediction, RawPrediction, Scalings
from warmdiff.process import BlurNoiseProcess
from warmdiff.runlog import TrainState
from warmdiff.sampling import Churn, SamplingError, State, generate, sample
from warmdiff.spectrum import DataSpectrum
from warmdiff.training import train

__all__ = [
    "BlurNoiseProcess", "Churn", "DataSpectrum", "Denoiser", "NetworkConfig", "Preconditioning", "Prediction", "RawPrediction",
    "SamplingError", "Scalings", "State", "TrainConfig", "TrainState", "WarmNet", "generate", "load", "load_config", "open_images",
    "sample", "train",
]  # fmt: skip
