"""The programs of apps/, built and run as their pages say."""
