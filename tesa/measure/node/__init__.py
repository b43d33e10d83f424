"""Runs WebAssembly in Node.js: checks kernels and times them, and runs compiled models."""
