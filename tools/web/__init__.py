"""The web page of tools/web_demo.py: `work` has its functions, and `layout`, which needs gradio, its appearance."""
