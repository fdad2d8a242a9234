"""The pages, by what one comes to do; each module has its ``urlpatterns``."""
