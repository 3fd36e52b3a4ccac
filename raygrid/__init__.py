"""raygrid: how vulnerable are medical image classifiers to transferred adversarial attacks?"""

__version__ = "0.1.0"
