"""Augmentation on the device: operations on uint8 images, before they are normalised.

Every operation is a function ``name(images, key, **arguments)`` that returns images of the same shape and type. One key
serves all images, and each image draws values of its own from it. An operation has two halves, so that each can be
tested: what it draws (``draw_*``), and what it does to images with given draws.

Arguments that are declared ``dynamic`` may be traced scalars: an operation compiles once for all their values, and
under ``vmap`` every lane may have its own.
"""

from dlbench.training.augmentation.affine import augment
from dlbench.training.augmentation.composition import transform_images

__all__ = ["augment", "transform_images"]
