"""The web page of tools/web_demo.py: `work` is what it does, `layout` is how it looks and needs gradio."""
