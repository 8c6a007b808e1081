"""Django, the HTTP API and the admin."""

from config.env import env

# --- Django ----------------------------------------------------------------------------------------------------------

# For development only: Django shows full error pages with settings, and logs are written for people.
DEBUG = env.bool("DEBUG", default=False)
# Signs the admin's sessions: a long random string. Changing it ends all sessions and has no other effect.
SECRET_KEY = env.str("SECRET_KEY")
# Host names that clients may use. Requests for any other name are refused, because links in answers contain the name.
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
# Set it behind a proxy that ends TLS. The proxy must set X-Forwarded-Proto itself and drop the client's header.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env.bool("BEHIND_TLS_PROXY", default=False) else None
# Sends the admin's cookies over TLS only. Set false only to log in over plain HTTP on your own machine.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.bool("SECURE_COOKIES", default=True)
# The API never redirects to TLS, because clients drop credentials on a redirect. The proxy redirects browsers.
SECURE_SSL_REDIRECT = False
# Seconds for which browsers must use TLS (HSTS). 0, because the proxy that ends TLS sends this header for its whole name.
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=0)
SILENCED_SYSTEM_CHECKS = [
    *("security.W004", "security.W008"),  # they concern the proxy, see above
    # They look for Django's classes in MIDDLEWARE. Ours are in BROWSER_MIDDLEWARE.
    *("security.W001", "security.W002", "security.W003", "admin.E408", "admin.E409", "admin.E410"),
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
CSRF_FAILURE_VIEW = "api.problems.csrf_failed"
APPEND_SLASH = False  # a redirect would lose the body of a POST
USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True  # serves static files from where the packages are installed
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}}
]

INSTALLED_APPS = [
    "config.apps.OperatorAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular_sidecar",
    "accounts",
    "idempotency",
    "jobs",
    "operations.payments",
    "workers",
    "api",
    "observability",
    "operators",
    "config",
]

MIDDLEWARE = [
    "observability.metrics.requests.MetricsMiddleware",
    "api.middleware.RequestIdMiddleware",
    "observability.access_log.AccessLogMiddleware",
    "api.middleware.HeaderLimitMiddleware",
    "api.middleware.BrowserMiddleware",
]
# Only for pages: /admin, /docs, static files and all else that is not under /v1/. Most of it would cost each request of the API
# time for nothing.
BROWSER_MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "api.middleware.StaticFilesMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "api.middleware.ContentLengthMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- HTTP ------------------------------------------------------------------------------------------------------------

# Maximum bytes of a request body. A job's params describe the work; they do not carry its data.
DATA_UPLOAD_MAX_MEMORY_SIZE = env.int("BODY_MAX_BYTES", default=256 * 1024)
# Maximum bytes of a request's header names and values: as much as proxies accept (nginx: four buffers of 8 KiB). Above about
# 400 KB granian answers 431 without a body. Where that matters, configure a lower limit and a body in the proxy.
HEADERS_MAX_BYTES = env.int("HEADERS_MAX_BYTES", default=32 * 1024)
# Base address of problem types. Empty: the address that the client used.
PUBLIC_BASE_URL = env.str("PUBLIC_BASE_URL", default="").rstrip("/")
# Threads of one api process, as its server was started. A thread mostly waits for PostgreSQL and holds one connection.
API_THREADS = env.int("API_THREADS", default=8)
# Seconds for which a process accepts an API key without reading it again, and so the time that a revocation takes. 0 to 5.
CREDENTIAL_CACHE_SECONDS = env.float("CREDENTIAL_CACHE_SECONDS", default=5.0)
# Connections that one api process holds open at once, as its server was started; more wait until one is closed. Each needs
# about 10 KB and an open file. Enough for 10,000 clients if one process must serve them all.
API_CONNECTIONS = env.int("API_CONNECTIONS", default=16_384)
# Requests per second that one tenant may send on average. 0: no limit, because the normal load of a tenant is not known in
# advance.
RATE_LIMIT_PER_SECOND = env.int("RATE_LIMIT_PER_SECOND", default=0)
# Requests that one tenant may send at once above that rate.
RATE_LIMIT_BURST = env.int("RATE_LIMIT_BURST", default=100)

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.authentication.IsTenant"],
    "DEFAULT_THROTTLE_CLASSES": ["api.rate_limit.TenantRateLimit"],
    "DEFAULT_PARSER_CLASSES": ["idempotency.parsers.ExactJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "api.content_negotiation.JsonNegotiation",
    "DEFAULT_RENDERER_CLASSES": ["api.content_negotiation.OrjsonRenderer"],
    "EXCEPTION_HANDLER": "api.problems.handle_exception",
    # Errors of a body as a whole need a key that no member can have: no JSON name is a lone surrogate.
    "NON_FIELD_ERRORS_KEY": "\ud800",
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
    "URL_FORMAT_OVERRIDE": None,
    "FORMAT_SUFFIX_KWARG": None,
}

# drf-spectacular only turns serializers into JSON Schema (api/json_schema.py). api/openapi.yaml is the HTTP contract.
SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.1",
    "ENFORCE_NON_BLANK_FIELDS": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
}

# --- Admin -----------------------------------------------------------------------------------------------------------

# Seconds that one statement of an admin page may take. A longer statement would slow down the service.
ADMIN_STATEMENT_SECONDS = env.float("ADMIN_STATEMENT_SECONDS", default=3.0)
# Members of params, results and errors whose values the admin hides: every name that contains one of these, in any case.
# The list hides too much rather than too little. Read a hidden value through the API with a key of the tenant.
ADMIN_MASKED_NAMES = env.list(
    "ADMIN_MASKED_NAMES",
    default=[
        *("source", "token", "secret", "password", "passwd", "pwd", "passphrase", "credential", "authorization"),
        *("api_key", "apikey", "api-key", "private_key", "privatekey", "cookie", "signature", "dsn"),
        *("card", "cvc", "cvv", "pan_", "iban", "account_number", "routing_number", "ssn", "tax_id"),
    ],
)
# Seconds that the audit log is kept: two years, as auditors require. The database refuses to delete entries under 90 days.
AUDIT_RETENTION_SECONDS = env.int("AUDIT_RETENTION_SECONDS", default=730 * 24 * 3600)
