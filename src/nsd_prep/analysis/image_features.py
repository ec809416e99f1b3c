"""What can be computed from an image without a brain: contrast energy by orientation and scale."""

from typing import Final

import numpy as np
import scipy.fft
from numpy.typing import NDArray

ORIENTATIONS: Final = 4
#: Spatial frequencies in cycles per image, an octave apart.
FREQUENCIES: Final = (4.0, 8.0, 16.0)
#: Energy is averaged in a grid of so many fields along each side.
FIELDS: Final = 4
#: Images are first averaged down to so many pixels along each side.
_SIDE: Final = 64
#: Bandwidth of a filter, in octaves and in radians (standard deviations of its Gaussians).
_OCTAVES: Final = 0.5
_RADIANS: Final = np.pi / ORIENTATIONS / 1.5
_IMAGES_AT_ONCE: Final = 64


def image_features(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the contrast energy of images by place, orientation and scale.

    The power of quadrature filters (log-Gabor: Field 1987, J. Opt. Soc. Am. A 4:2379), averaged
    over the fields of a grid, and its square root: a model of V1's complex cells that needs no
    fitting (as the contrast model of Kay et al. 2008, Nature 452:352, without its tuning).

    Parameters
    ----------
    images : ndarray of uint8, shape (n_images, height, width, 3)
        RGB.

    Returns
    -------
    ndarray of float32, shape (n_images, 4 * 4 * 4 * 3)
        Fields of the grid (row by row), orientations, frequencies; 0 but for rounding of a uniform
        image.
    """
    bank = _filters()
    features = np.empty((len(images), FIELDS * FIELDS * len(bank)), dtype=np.float32)
    for start in range(0, len(images), _IMAGES_AT_ONCE):
        block = _small_grey(images[start : start + _IMAGES_AT_ONCE])
        spectrum = scipy.fft.fft2(block - block.mean(axis=(1, 2), keepdims=True))
        energy = np.abs(scipy.fft.ifft2(spectrum[:, np.newaxis] * bank)) ** 2
        shape = (len(block), len(bank), FIELDS, _SIDE // FIELDS, FIELDS, _SIDE // FIELDS)
        fields = np.sqrt(energy.reshape(shape).mean(axis=(3, 5)))
        features[start : start + len(block)] = fields.transpose(0, 2, 3, 1).reshape(len(block), -1)
    return features


def _small_grey(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Average images down to 64 x 64 pixels of luminance (ITU-R BT.601), 0 to 1."""
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32) / 255
    grey = sum(images[..., colour] * weight for colour, weight in enumerate(weights))
    rows, columns = (_averaging(length) for length in images.shape[1:3])
    small: NDArray[np.float32] = rows @ grey @ columns.T
    return small


def _averaging(length: int) -> NDArray[np.float32]:
    """Return the weights that average pixels down to `_SIDE`, each by its overlap."""
    edges = np.linspace(0, length, _SIDE + 1)[:, np.newaxis]
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    return np.asarray(np.maximum(overlap, 0) * (_SIDE / length), dtype=np.float32)


def _filters() -> NDArray[np.float32]:
    """Return the filters in the frequency domain, one-sided: quadrature pairs in one."""
    vertical, horizontal = np.meshgrid(
        np.fft.fftfreq(_SIDE, 1 / _SIDE), scipy.fft.fftfreq(_SIDE, 1 / _SIDE), indexing="ij"
    )
    radius = np.hypot(vertical, horizontal)
    radius[0, 0] = 1
    angle = np.arctan2(vertical, horizontal)
    bank = []
    for orientation in np.arange(ORIENTATIONS) * np.pi / ORIENTATIONS:
        # The difference of angles on the whole circle: the other half is left out.
        away = np.angle(np.exp(1j * (angle - orientation)))
        for frequency in FREQUENCIES:
            octaves = np.log2(radius / frequency)
            gain = np.exp(-(octaves**2) / 2 / _OCTAVES**2 - away**2 / 2 / _RADIANS**2)
            gain[0, 0] = 0
            bank.append(gain)
    return np.stack(bank).astype(np.float32)
