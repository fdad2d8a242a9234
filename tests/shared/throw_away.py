"""The site's settings for tests: everything it keeps lies in a folder that goes with the run.

Django's settings are read before any conftest is; so the folder is chosen here.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

_HOME = tempfile.mkdtemp(prefix="trocar-tests-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ["TROCAR_HOME"] = _HOME

from trocar.web.settings import *  # noqa: E402, F403
from trocar.web.settings import DATABASES  # noqa: E402

if "sqlite3" in DATABASES["default"]["ENGINE"]:
    # A file, as in use: threads and a live server see one another's rows as they would there.
    DATABASES["default"]["TEST"] = {"NAME": os.path.join(_HOME, "test.sqlite3")}
# Passwords of tests protect nothing, and a slow hash would be most of their time.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
