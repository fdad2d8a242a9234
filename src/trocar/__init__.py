"""trocar: plan, simulate, assess and audit percutaneous treatment of painful bone metastases.

Research use only. Not a medical device.
"""

__version__ = "0.1.0"

NOTICE = "Research use only. Not a medical device."
