"""What touches an untrusted video: all of it runs in the child process of `sandbox`."""
