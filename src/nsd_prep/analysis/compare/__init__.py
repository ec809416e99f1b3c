"""Two assemblies side by side: what differs, and why it may."""
