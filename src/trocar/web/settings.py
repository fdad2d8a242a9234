"""Settings of the site. Nothing need be set to try it; ``TROCAR_*`` variables change what it does.

TROCAR_HOME      folder of the embedded database, the secret key and the kept files
TROCAR_DATABASE  postgresql://user:password@host:port/name instead of the embedded database
TROCAR_HOSTS     names the site is reached by, parted by commas, behind a reverse proxy
TROCAR_TIMEZONE  where the clinic is, such as Asia/Hong_Kong; else as this machine is set
TROCAR_HTTPS     1 behind a proxy that speaks HTTPS: cookies are then sent over HTTPS alone
TROCAR_PROXY     that proxy's address when it is not on this machine
TROCAR_OIDC      a JSON file that describes an OpenID Connect provider
TROCAR_SCHEDULER tcp://host:port of a Dask scheduler that computes instead of this machine
TROCAR_WORKERS   how many workers this machine starts; else one a core, as the memory reaches
TROCAR_SILENCE_S seconds without a word after which a job is ended; else 900
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from csp.constants import NONE, SELF

from trocar.errors import InputError
from trocar.web.serve import home

HERE = Path(__file__).parent


def _secret(place: Path) -> str:
    """The site's key, made once and readable by its owner alone."""
    file = place / "secret-key"
    if not file.exists():
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as stream:
            stream.write(secrets.token_urlsafe(64))
    return file.read_text().strip()


def database(url: str | None, place: Path) -> dict[str, Any]:
    """Django's description of the database: SQLite in ``place``, or the server a URL names."""
    if not url:
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(place / "registry.sqlite3"),
            "OPTIONS": {
                # A writer announces itself at once: two writers wait, neither fails half-way.
                "transaction_mode": "IMMEDIATE",
                "timeout": 30,
                # FULL: what was acknowledged outlives a power cut.
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; "
                "PRAGMA foreign_keys=ON",
            },
        }
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres") or not parts.path.strip("/"):
        raise InputError(
            f"TROCAR_DATABASE begins with {parts.scheme!r}; expected "
            "postgresql://user:password@host:port/name"
        )
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.strip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or ""),
        "PORT": str(parts.port or ""),
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
    }


HOME = home()
SECRET_KEY = os.environ.get("TROCAR_SECRET_KEY") or _secret(HOME)
DEBUG = False
HTTPS = os.environ.get("TROCAR_HTTPS") == "1"
PROXY = os.environ.get("TROCAR_PROXY", "127.0.0.1")
ALLOWED_HOSTS = [
    h.strip() for h in os.environ.get("TROCAR_HOSTS", "127.0.0.1,localhost").split(",") if h.strip()
]
CSRF_TRUSTED_ORIGINS = [f"https://{h}" for h in ALLOWED_HOSTS] if HTTPS else []

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "simple_history",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "csp",
    "trocar.registry.apps.RegistryConfig",
    "trocar.web.apps.WebConfig",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "trocar.web.guard.Guard",
]
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
ROOT_URLCONF = "trocar.web.urls"
WSGI_APPLICATION = "trocar.web.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [HERE / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "trocar.web.context.site",
            ],
        },
    }
]
DATABASES = {"default": database(os.environ.get("TROCAR_DATABASE"), HOME)}
CACHES = {
    "default": {
        # Failed logins are counted where a restart or a second process does not forget them.
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "trocar_cache",
    }
}

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hant", "繁體中文")]
LOCALE_PATHS = [HERE / "locale"]
USE_I18N, USE_TZ, TIME_ZONE = True, True, "UTC"  # moments are kept in UTC ...
CLINIC_TIME_ZONE = os.environ.get("TROCAR_TIMEZONE", "")  # ... and a day is the clinic's
USE_THOUSAND_SEPARATOR = False

STATIC_URL = "/static/"
STATICFILES_DIRS: list[Any] = [HERE / "static"]
_VIEWER = HERE.parent / "report" / "assets"  # brought in when the package is built, or not there
if _VIEWER.is_dir():
    STATICFILES_DIRS.append(("viewer", _VIEWER))
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False
KEPT_FILES = HOME / "files"  # sheets and images, by their hash
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 << 20
FILE_UPLOAD_MAX_MEMORY_SIZE = 4 << 20
DATA_UPLOAD_MAX_NUMBER_FIELDS = 20_000  # a sheet of a procedure with hundreds of lines

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}", "OPTIONS": options}
    for name, options in (
        ("UserAttributeSimilarityValidator", {"max_similarity": 0.6}),
        ("MinimumLengthValidator", {"min_length": 12}),
        ("CommonPasswordValidator", {}),
        ("NumericPasswordValidator", {}),
    )
]
LOGIN_URL, LOGIN_REDIRECT_URL, LOGOUT_REDIRECT_URL = "/accounts/login/", "/", "/accounts/login/"
ACCOUNT_ADAPTER = "trocar.web.accounts.Adapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = False
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_RATE_LIMITS = {"login_failed": "5/5m/key,30/5m/ip", "change_password": "5/m/user"}
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TOTP_ISSUER = "trocar"

# Browsers keep cookies by host and forget the port: two registries on one machine would log each
# other's people out.
_OWN = hashlib.sha256(f"{HOME.absolute()} {os.environ.get('TROCAR_DATABASE', '')}".encode())
SESSION_COOKIE_NAME = f"sessionid-{_OWN.hexdigest()[:8]}"
CSRF_COOKIE_NAME = f"csrftoken-{_OWN.hexdigest()[:8]}"
SESSION_COOKIE_AGE = 30 * 60  # idle
SESSION_SAVE_EVERY_REQUEST = False  # the guard renews it once a minute
SESSION_LONGEST_S = 12 * 3600  # from login, however busy
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
SESSION_COOKIE_HTTPONLY, SESSION_COOKIE_SAMESITE = True, "Lax"
CSRF_COOKIE_HTTPONLY, CSRF_COOKIE_SAMESITE = True, "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = False  # the proxy's work
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "SAMEORIGIN"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],
        "style-src": [SELF],
        "script-src": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "frame-ancestors": [SELF],
        "form-action": [SELF],
    }
}

_OIDC = os.environ.get("TROCAR_OIDC")
if _OIDC:
    INSTALLED_APPS += ["allauth.socialaccount", "allauth.socialaccount.providers.openid_connect"]
    SOCIALACCOUNT_ONLY = False
    SOCIALACCOUNT_AUTO_SIGNUP = False
    SOCIALACCOUNT_ADAPTER = "trocar.web.accounts.SocialAdapter"
    _PROVIDER = json.loads(Path(_OIDC).read_text(encoding="utf-8"))
    SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": [_PROVIDER]}}
    # The login's form is answered with a redirect there, which browsers hold to the policy too.
    _AT = urlsplit(_PROVIDER["settings"]["server_url"])
    CONTENT_SECURITY_POLICY["DIRECTIVES"]["form-action"].append(f"{_AT.scheme}://{_AT.netloc}")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    # Addresses hold opaque names only; bodies, forms and SQL values are never logged.
    "formatters": {"line": {"()": "trocar.web.serve.NoValues"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}
SILENCED_SYSTEM_CHECKS: list[str] = []
