"""mcp-server: AI providers' wire formats with answers that a test can foretell."""
