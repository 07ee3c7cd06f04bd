"""evg: from a camera frame to the point on the screen that a person looks at."""

__version__ = '0.1.0'
