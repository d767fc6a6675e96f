"""The examples of deployment, executed as they are written."""
