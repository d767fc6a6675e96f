"""Who has a name and a password, as every other way to log in of the configured chain says it."""

from base64 import b64encode

import msgspec

from drift_core.api import Access, Credentials, Identity, Unauthorized


async def identify(access: Access, request: Credentials, username: str, password: str) -> Identity:
    """Returns whom name and password prove. Raises `Unauthorized`."""
    # The name ends at the first colon (RFC 7617 section 2): with one in it, it would be that of another.
    if not username or ":" in username:
        raise Unauthorized("the name or the password is wrong", username=username)
    value = f"Basic {b64encode(f'{username}:{password}'.encode()).decode()}"
    # A certificate or a cookie of the same request would prove its sender, whatever the password.
    asked = msgspec.structs.replace(request, authorization=value, headers=[("authorization", value)], certificate=None)
    identity = await access.identify(asked)
    if identity is None:
        raise Unauthorized("the name or the password is wrong", username=username)
    return identity
