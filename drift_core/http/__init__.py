"""The registry as an ASGI application: routes, error bodies, the guard in front of every route."""
