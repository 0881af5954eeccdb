"""The processes of a job: started, brought together, watched, agreed, and normalising as one."""
