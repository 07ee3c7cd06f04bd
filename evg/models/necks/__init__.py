"""Necks: a backbone's feature map to the resolution of the heatmap."""

from .deconv import DeconvNeck

__all__ = ['DeconvNeck']
