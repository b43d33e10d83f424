"""What an application needs beside a compiled model, gathered in one folder."""
