"""What an opened driver can do: one small Protocol per family, and optional powers as Protocols of their own.

A method is never added to a published Protocol. A new power is a new Protocol, looked for with `isinstance` once, when
the driver is opened. Every method may be called by many tasks at once unless it says otherwise.
"""
