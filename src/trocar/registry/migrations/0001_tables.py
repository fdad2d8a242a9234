import uuid

import django.db.models.deletion
import django.db.models.functions.comparison
import simple_history.models
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("auth", "__first__"),
    ]

    operations = [
        migrations.CreateModel(
            name="Lesion",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("lesion_id", models.TextField(help_text="name of the lesion within the study")),
                (
                    "site",
                    models.CharField(
                        choices=[
                            ("C1", "C1"),
                            ("C2", "C2"),
                            ("C3", "C3"),
                            ("C4", "C4"),
                            ("C5", "C5"),
                            ("C6", "C6"),
                            ("C7", "C7"),
                            ("T1", "T1"),
                            ("T2", "T2"),
                            ("T3", "T3"),
                            ("T4", "T4"),
                            ("T5", "T5"),
                            ("T6", "T6"),
                            ("T7", "T7"),
                            ("T8", "T8"),
                            ("T9", "T9"),
                            ("T10", "T10"),
                            ("T11", "T11"),
                            ("T12", "T12"),
                            ("L1", "L1"),
                            ("L2", "L2"),
                            ("L3", "L3"),
                            ("L4", "L4"),
                            ("L5", "L5"),
                            ("T13", "T13"),
                            ("L6", "L6"),
                            ("cervical spine", "cervical spine"),
                            ("thoracic spine", "thoracic spine"),
                            ("lumbar spine", "lumbar spine"),
                            ("sacrum", "sacrum"),
                            ("S1", "S1"),
                            ("S2", "S2"),
                            ("S3", "S3"),
                            ("S4", "S4"),
                            ("S5", "S5"),
                            ("pelvis", "pelvis"),
                            ("ilium", "ilium"),
                            ("acetabulum", "acetabulum"),
                            ("ischium", "ischium"),
                            ("pubis", "pubis"),
                            ("pubic ramus", "pubic ramus"),
                            ("humerus", "humerus"),
                            ("femur", "femur"),
                            ("tibia", "tibia"),
                            ("scapula", "scapula"),
                            ("sternum", "sternum"),
                            ("rib", "rib"),
                            ("clavicle", "clavicle"),
                            ("other", "other"),
                        ],
                        help_text="bone or vertebral level",
                        max_length=100,
                    ),
                ),
                (
                    "side",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("left", "left"),
                            ("right", "right"),
                            ("both", "both"),
                            ("midline", "midline"),
                        ],
                        help_text="side",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "diagnosis",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("metastasis", "metastasis"),
                            ("primary malignant bone tumour", "primary malignant bone tumour"),
                            ("myeloma", "myeloma"),
                            ("osteoporotic fracture", "osteoporotic fracture"),
                            ("haemangioma", "haemangioma"),
                            ("benign cyst", "benign cyst"),
                            ("other", "other"),
                        ],
                        help_text="what the lesion is",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "nature",
                    models.CharField(
                        blank=True,
                        choices=[("lytic", "lytic"), ("mixed", "mixed"), ("blastic", "blastic")],
                        help_text="lytic, mixed or blastic",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "soft_tissue",
                    models.BooleanField(
                        blank=True, help_text="significant soft-tissue component", null=True
                    ),
                ),
                (
                    "posterior_wall_defect",
                    models.BooleanField(
                        blank=True, help_text="defect of the posterior vertebral wall", null=True
                    ),
                ),
                (
                    "volume_ml",
                    models.FloatField(blank=True, help_text="volume of the lesion", null=True),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("lesion_id", ""), _negated=True),
                        name="lesions_lesion_id_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "site__in",
                                (
                                    "C1",
                                    "C2",
                                    "C3",
                                    "C4",
                                    "C5",
                                    "C6",
                                    "C7",
                                    "T1",
                                    "T2",
                                    "T3",
                                    "T4",
                                    "T5",
                                    "T6",
                                    "T7",
                                    "T8",
                                    "T9",
                                    "T10",
                                    "T11",
                                    "T12",
                                    "L1",
                                    "L2",
                                    "L3",
                                    "L4",
                                    "L5",
                                    "T13",
                                    "L6",
                                    "cervical spine",
                                    "thoracic spine",
                                    "lumbar spine",
                                    "sacrum",
                                    "S1",
                                    "S2",
                                    "S3",
                                    "S4",
                                    "S5",
                                    "pelvis",
                                    "ilium",
                                    "acetabulum",
                                    "ischium",
                                    "pubis",
                                    "pubic ramus",
                                    "humerus",
                                    "femur",
                                    "tibia",
                                    "scapula",
                                    "sternum",
                                    "rib",
                                    "clavicle",
                                    "other",
                                ),
                            )
                        ),
                        name="lesions_site_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("side__in", ("left", "right", "both", "midline"))),
                        name="lesions_side_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "diagnosis__in",
                                (
                                    "metastasis",
                                    "primary malignant bone tumour",
                                    "myeloma",
                                    "osteoporotic fracture",
                                    "haemangioma",
                                    "benign cyst",
                                    "other",
                                ),
                            )
                        ),
                        name="lesions_diagnosis_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("nature__in", ("lytic", "mixed", "blastic"))),
                        name="lesions_nature_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("volume_ml__gte", 0)), name="lesions_volume_ml_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("volume_ml__lte", 2000)), name="lesions_volume_ml_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("note", ""), _negated=True), name="lesions_note_a"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ChainHead",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.BigIntegerField(default=0)),
                ("sha256", models.CharField(default="", max_length=64)),
            ],
        ),
        migrations.CreateModel(
            name="Job",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("kind", models.CharField(max_length=40)),
                ("asked_by", models.TextField()),
                ("asked_at", models.CharField(max_length=32)),
                ("parameters", models.JSONField(default=dict)),
                ("state", models.CharField(default="waiting", max_length=20)),
                ("step", models.TextField(blank=True, default="")),
                ("fraction", models.FloatField(default=0.0)),
                ("ended_at", models.CharField(blank=True, default="", max_length=32)),
                ("result", models.TextField(blank=True, default="")),
                ("error", models.TextField(blank=True, default="")),
            ],
        ),
        migrations.CreateModel(
            name="Patient",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("patient_id", models.TextField(help_text="pseudonym")),
                (
                    "sex",
                    models.CharField(
                        blank=True,
                        choices=[("female", "female"), ("male", "male"), ("other", "other")],
                        help_text="sex",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "age_years",
                    models.FloatField(
                        blank=True, help_text="age at the first procedure", null=True
                    ),
                ),
                (
                    "primary",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("lung", "lung"),
                            ("breast", "breast"),
                            ("prostate", "prostate"),
                            ("kidney", "kidney"),
                            ("thyroid", "thyroid"),
                            ("myeloma", "myeloma"),
                            ("lymphoma", "lymphoma"),
                            ("colon", "colon"),
                            ("rectum", "rectum"),
                            ("stomach", "stomach"),
                            ("oesophagus", "oesophagus"),
                            ("pancreas", "pancreas"),
                            ("liver", "liver"),
                            ("gallbladder", "gallbladder"),
                            ("bladder", "bladder"),
                            ("other urological", "other urological"),
                            ("uterus", "uterus"),
                            ("cervix", "cervix"),
                            ("ovary", "ovary"),
                            ("head and neck", "head and neck"),
                            ("melanoma", "melanoma"),
                            ("sarcoma", "sarcoma"),
                            ("osteosarcoma", "osteosarcoma"),
                            ("carcinoid", "carcinoid"),
                            ("seminoma", "seminoma"),
                            ("unknown", "unknown"),
                            ("other", "other"),
                        ],
                        help_text="primary tumour",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("patient_id", ""), _negated=True),
                        name="patients_patient_id_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("sex__in", ("female", "male", "other"))),
                        name="patients_sex_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("age_years__gte", 0)), name="patients_age_years_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("age_years__lte", 120)), name="patients_age_years_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "primary__in",
                                (
                                    "lung",
                                    "breast",
                                    "prostate",
                                    "kidney",
                                    "thyroid",
                                    "myeloma",
                                    "lymphoma",
                                    "colon",
                                    "rectum",
                                    "stomach",
                                    "oesophagus",
                                    "pancreas",
                                    "liver",
                                    "gallbladder",
                                    "bladder",
                                    "other urological",
                                    "uterus",
                                    "cervix",
                                    "ovary",
                                    "head and neck",
                                    "melanoma",
                                    "sarcoma",
                                    "osteosarcoma",
                                    "carcinoid",
                                    "seminoma",
                                    "unknown",
                                    "other",
                                ),
                            )
                        ),
                        name="patients_primary_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("note", ""), _negated=True), name="patients_note_a"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Study",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("study_id", models.TextField(unique=True)),
                ("title", models.TextField()),
                ("unit", models.TextField(blank=True, null=True)),
                ("period_start", models.CharField(blank=True, max_length=10, null=True)),
                ("period_end", models.CharField(blank=True, max_length=10, null=True)),
                ("source", models.TextField(blank=True, null=True)),
                ("pain_recall", models.TextField(blank=True, null=True)),
                ("pain_activity", models.TextField(blank=True, null=True)),
                ("note", models.TextField(blank=True, null=True)),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="ChainEvent",
            fields=[
                ("number", models.BigIntegerField(primary_key=True, serialize=False)),
                ("at", models.CharField(max_length=32)),
                ("who", models.TextField()),
                ("kind", models.CharField(max_length=40)),
                ("subject", models.TextField(blank=True)),
                ("detail", models.TextField()),
                ("before", models.CharField(max_length=64)),
                ("sha256", models.CharField(max_length=64)),
            ],
            options={
                "indexes": [
                    models.Index(
                        fields=["subject", "number"], name="registry_ch_subject_b52ef0_idx"
                    ),
                    models.Index(fields=["kind"], name="registry_ch_kind_914916_idx"),
                ],
            },
        ),
        migrations.CreateModel(
            name="HistoricalAssessment",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                ("date", models.CharField(help_text="day of the CT", max_length=10)),
                (
                    "image_id",
                    models.TextField(blank=True, help_text="which image study", null=True),
                ),
                ("read_by", models.TextField(blank=True, help_text="who read it", null=True)),
                ("cement_ml", models.FloatField(blank=True, help_text="cement found", null=True)),
                ("cement_low_ml", models.FloatField(blank=True, help_text="at least", null=True)),
                ("cement_high_ml", models.FloatField(blank=True, help_text="at most", null=True)),
                (
                    "fill_fraction",
                    models.FloatField(
                        blank=True, help_text="share of the lesion that is filled", null=True
                    ),
                ),
                (
                    "leak_found",
                    models.BooleanField(
                        blank=True, help_text="cement outside the bone was found", null=True
                    ),
                ),
                ("compartments", models.JSONField(blank=True, help_text="where", null=True)),
                (
                    "nearest_joint_mm",
                    models.FloatField(blank=True, help_text="cement to joint", null=True),
                ),
                (
                    "result_sha256",
                    models.TextField(blank=True, help_text="hash of the result's file", null=True),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which lesion",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical assessment",
                "verbose_name_plural": "historical assessments",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalBaseline",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                (
                    "decided_on",
                    models.CharField(
                        blank=True, help_text="day of the decision", max_length=10, null=True
                    ),
                ),
                (
                    "pain_present",
                    models.BooleanField(blank=True, help_text="the lesion hurts", null=True),
                ),
                (
                    "site_of_maximal_pain",
                    models.BooleanField(
                        blank=True, help_text="it is the site of maximal pain", null=True
                    ),
                ),
                (
                    "matches_imaging",
                    models.BooleanField(
                        blank=True, help_text="pain and imaging point to the same place", null=True
                    ),
                ),
                (
                    "failed_treatments",
                    models.JSONField(
                        blank=True,
                        help_text="treatments that failed to control the pain",
                        null=True,
                    ),
                ),
                (
                    "analgesia_maximised",
                    models.BooleanField(
                        blank=True,
                        help_text="oral or parenteral analgesia was maximised",
                        null=True,
                    ),
                ),
                (
                    "radiotherapy_given",
                    models.BooleanField(
                        blank=True, help_text="radiotherapy was given to this lesion", null=True
                    ),
                ),
                (
                    "radiotherapy_end",
                    models.CharField(
                        blank=True,
                        help_text="last day of radiotherapy to this lesion",
                        max_length=10,
                        null=True,
                    ),
                ),
                (
                    "radiotherapy_override",
                    models.TextField(
                        blank=True,
                        help_text="why not to wait for the effect of radiotherapy",
                        null=True,
                    ),
                ),
                (
                    "mdt_date",
                    models.CharField(
                        blank=True,
                        help_text="day of the multidisciplinary meeting",
                        max_length=10,
                        null=True,
                    ),
                ),
                (
                    "mdt_members",
                    models.JSONField(blank=True, help_text="specialties that took part", null=True),
                ),
                (
                    "spinal_surgery_access",
                    models.BooleanField(
                        blank=True, help_text="good access to a spinal surgery service", null=True
                    ),
                ),
                (
                    "surgical_opinion",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("cementoplasty", "cementoplasty"),
                            ("surgery first", "surgery first"),
                        ],
                        help_text="what a surgeon advised when asked about fixation or stabilisation",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "consent_date",
                    models.CharField(
                        blank=True, help_text="day the consent was signed", max_length=10, null=True
                    ),
                ),
                (
                    "audit_registered",
                    models.BooleanField(
                        blank=True, help_text="entered into the unit's audit", null=True
                    ),
                ),
                (
                    "governance_approved",
                    models.BooleanField(
                        blank=True, help_text="approved by clinical governance", null=True
                    ),
                ),
                (
                    "operator_trained",
                    models.BooleanField(
                        blank=True, help_text="operator trained to the appropriate level", null=True
                    ),
                ),
                (
                    "operator_cases",
                    models.IntegerField(
                        blank=True, help_text="procedures the operator has done before", null=True
                    ),
                ),
                (
                    "planned_ablation",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("none", "none"),
                            ("radiofrequency", "radiofrequency"),
                            ("microwave", "microwave"),
                            ("cryo", "cryo"),
                            ("HIFU", "HIFU"),
                            ("plasma", "plasma"),
                        ],
                        help_text="ablation planned with the cement",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "infection",
                    models.BooleanField(
                        blank=True, help_text="active local or systemic infection", null=True
                    ),
                ),
                (
                    "uncorrectable_coagulopathy",
                    models.BooleanField(
                        blank=True, help_text="coagulopathy that cannot be corrected", null=True
                    ),
                ),
                (
                    "cement_allergy",
                    models.BooleanField(blank=True, help_text="allergy to cement", null=True),
                ),
                (
                    "cord_compression_fragment",
                    models.BooleanField(
                        blank=True,
                        help_text="unstable fracture with deficit, or retropulsed fragment compressing the cord",
                        null=True,
                    ),
                ),
                (
                    "asymptomatic_stable",
                    models.BooleanField(
                        blank=True, help_text="the lesion is stable and does not hurt", null=True
                    ),
                ),
                (
                    "new_neuro_deficit",
                    models.BooleanField(
                        blank=True, help_text="new neurological deficit", null=True
                    ),
                ),
                ("myelopathy", models.BooleanField(blank=True, help_text="myelopathy", null=True)),
                (
                    "radicular_dominant",
                    models.BooleanField(
                        blank=True, help_text="radicular pain greater than axial pain", null=True
                    ),
                ),
                (
                    "cortical_defect",
                    models.BooleanField(
                        blank=True,
                        help_text="cortical defect other than the posterior wall",
                        null=True,
                    ),
                ),
                (
                    "joint_surface",
                    models.BooleanField(
                        blank=True, help_text="lesion reaches a joint surface", null=True
                    ),
                ),
                ("pregnancy", models.BooleanField(blank=True, help_text="pregnancy", null=True)),
                (
                    "severe_cardiopulmonary",
                    models.BooleanField(
                        blank=True, help_text="severe cardiopulmonary disease", null=True
                    ),
                ),
                (
                    "levels_per_session",
                    models.IntegerField(
                        blank=True, help_text="levels or lesions to be treated together", null=True
                    ),
                ),
                (
                    "inr",
                    models.FloatField(
                        blank=True, help_text="international normalised ratio", null=True
                    ),
                ),
                ("platelets_e9_l", models.FloatField(blank=True, help_text="platelets", null=True)),
                (
                    "superficial_extremity",
                    models.BooleanField(
                        blank=True,
                        help_text="superficial bone of an extremity, no ablation",
                        null=True,
                    ),
                ),
                (
                    "ecog",
                    models.IntegerField(blank=True, help_text="ECOG performance status", null=True),
                ),
                (
                    "karnofsky",
                    models.IntegerField(blank=True, help_text="Karnofsky index", null=True),
                ),
                (
                    "expected_survival_months",
                    models.FloatField(
                        blank=True, help_text="expected survival by the meeting", null=True
                    ),
                ),
                (
                    "mirels_size_fraction",
                    models.FloatField(blank=True, help_text="lesion over bone diameter", null=True),
                ),
                (
                    "mirels_pain",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("mild", "mild"),
                            ("moderate", "moderate"),
                            ("functional", "functional"),
                        ],
                        help_text="Mirels pain",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "peritrochanteric",
                    models.BooleanField(
                        blank=True, help_text="the lesion is peritrochanteric", null=True
                    ),
                ),
                (
                    "sins_pain",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("mechanical", "mechanical"),
                            ("occasional", "occasional"),
                            ("none", "none"),
                        ],
                        help_text="SINS pain",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "sins_alignment",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("normal", "normal"),
                            ("deformity", "deformity"),
                            ("subluxation", "subluxation"),
                        ],
                        help_text="SINS alignment",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "sins_collapse_percent",
                    models.FloatField(blank=True, help_text="vertebral body collapse", null=True),
                ),
                (
                    "sins_body_involved_percent",
                    models.FloatField(
                        blank=True, help_text="share of the body involved", null=True
                    ),
                ),
                (
                    "sins_posterolateral",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("none", "none"),
                            ("unilateral", "unilateral"),
                            ("bilateral", "bilateral"),
                        ],
                        help_text="SINS posterolateral involvement",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "escc",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("0", "0"),
                            ("1a", "1a"),
                            ("1b", "1b"),
                            ("1c", "1c"),
                            ("2", "2"),
                            ("3", "3"),
                        ],
                        help_text="epidural compression (ESCC, Bilsky)",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "harrington",
                    models.CharField(
                        blank=True,
                        choices=[("I", "I"), ("II", "II"), ("III", "III"), ("IV", "IV")],
                        help_text="Harrington acetabular class",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "visceral",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("none", "none"),
                            ("nodular removable", "nodular removable"),
                            ("nodular unremovable", "nodular unremovable"),
                            ("disseminated", "disseminated"),
                        ],
                        help_text="visceral or cerebral metastases",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "skeletal_lesions",
                    models.IntegerField(
                        blank=True,
                        help_text="number of skeletal metastases, this one included",
                        null=True,
                    ),
                ),
                (
                    "vertebral_lesions",
                    models.IntegerField(
                        blank=True,
                        help_text="number of vertebral bodies with metastases",
                        null=True,
                    ),
                ),
                (
                    "frankel",
                    models.CharField(
                        blank=True,
                        choices=[("A", "A"), ("B", "B"), ("C", "C"), ("D", "D"), ("E", "E")],
                        help_text="Frankel grade",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "previous_chemotherapy",
                    models.BooleanField(
                        blank=True, help_text="chemotherapy was given before", null=True
                    ),
                ),
                (
                    "targeted_drug",
                    models.BooleanField(
                        blank=True,
                        help_text="lung: treated with a molecular targeted drug",
                        null=True,
                    ),
                ),
                (
                    "hormone_dependent",
                    models.BooleanField(
                        blank=True, help_text="breast, prostate: hormone dependent", null=True
                    ),
                ),
                (
                    "crp_mg_dl",
                    models.FloatField(blank=True, help_text="C-reactive protein", null=True),
                ),
                (
                    "ldh_iu_l",
                    models.FloatField(blank=True, help_text="lactate dehydrogenase", null=True),
                ),
                ("albumin_g_dl", models.FloatField(blank=True, help_text="albumin", null=True)),
                (
                    "calcium_mg_dl",
                    models.FloatField(blank=True, help_text="calcium, corrected", null=True),
                ),
                (
                    "bilirubin_mg_dl",
                    models.FloatField(blank=True, help_text="total bilirubin", null=True),
                ),
                ("goals", models.TextField(blank=True, help_text="the patient's goals", null=True)),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which lesion",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical baseline",
                "verbose_name_plural": "historical baselines",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalComplication",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                (
                    "day",
                    models.FloatField(help_text="day after the procedure; 0 is just before it"),
                ),
                (
                    "event",
                    models.CharField(
                        choices=[
                            ("transient worsening of pain", "transient worsening of pain"),
                            ("fever", "fever"),
                            ("creatinine increase", "creatinine increase"),
                            ("cement embolus", "cement embolus"),
                            ("death from cement embolus", "death from cement embolus"),
                            ("nerve injury", "nerve injury"),
                            ("paralysis", "paralysis"),
                            ("vascular injury", "vascular injury"),
                            ("pathological fracture", "pathological fracture"),
                            ("infection", "infection"),
                            ("bleeding", "bleeding"),
                            ("thermal damage", "thermal damage"),
                            ("joint damage", "joint damage"),
                            ("pneumothorax", "pneumothorax"),
                            ("skin injury", "skin injury"),
                            ("device problem", "device problem"),
                            ("other", "other"),
                        ],
                        help_text="what happened",
                        max_length=100,
                    ),
                ),
                ("cirse", models.IntegerField(blank=True, help_text="CIRSE 2017 grade", null=True)),
                ("sir", models.IntegerField(blank=True, help_text="SIR 2017 grade", null=True)),
                ("ctcae", models.IntegerField(blank=True, help_text="CTCAE 5 grade", null=True)),
                (
                    "relation",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("needle", "needle"),
                            ("ablation", "ablation"),
                            ("cement", "cement"),
                            ("anaesthesia", "anaesthesia"),
                            ("disease", "disease"),
                            ("unknown", "unknown"),
                        ],
                        help_text="thought to come from",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "device_related",
                    models.BooleanField(blank=True, help_text="a device was involved", null=True),
                ),
                (
                    "yellow_card",
                    models.BooleanField(
                        blank=True, help_text="reported to the MHRA Yellow Card scheme", null=True
                    ),
                ),
                (
                    "sequelae",
                    models.BooleanField(blank=True, help_text="sequelae at 30 days", null=True),
                ),
                (
                    "temperature_c",
                    models.FloatField(blank=True, help_text="highest temperature", null=True),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which lesion",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical complication",
                "verbose_name_plural": "historical complications",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalConsent",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                (
                    "number",
                    models.IntegerField(help_text="first, second, ... consent of the lesion"),
                ),
                (
                    "date",
                    models.CharField(
                        blank=True,
                        help_text="day it was signed; empty while it is not",
                        max_length=10,
                        null=True,
                    ),
                ),
                (
                    "form_version",
                    models.TextField(
                        blank=True, help_text="version of the consent form", null=True
                    ),
                ),
                (
                    "taken_by",
                    models.TextField(blank=True, help_text="who spoke with the patient", null=True),
                ),
                ("techniques", models.JSONField(blank=True, help_text="consented to", null=True)),
                ("risks", models.JSONField(blank=True, help_text="risks spoken of", null=True)),
                (
                    "capacity",
                    models.BooleanField(
                        blank=True, help_text="the patient had capacity to consent", null=True
                    ),
                ),
                (
                    "interpreter",
                    models.BooleanField(blank=True, help_text="an interpreter helped", null=True),
                ),
                (
                    "withdrawn",
                    models.CharField(
                        blank=True, help_text="day it was withdrawn", max_length=10, null=True
                    ),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which lesion",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical consent",
                "verbose_name_plural": "historical consents",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalCourseEvent",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                (
                    "day",
                    models.FloatField(help_text="day after the procedure; 0 is just before it"),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("pain recurrence", "pain recurrence"),
                            ("new fracture adjacent", "new fracture adjacent"),
                            ("new fracture elsewhere", "new fracture elsewhere"),
                            ("retreatment", "retreatment"),
                            ("conversion to surgery", "conversion to surgery"),
                            ("lost to follow-up", "lost to follow-up"),
                            ("last seen", "last seen"),
                        ],
                        help_text="what happened",
                        max_length=100,
                    ),
                ),
                (
                    "level",
                    models.TextField(blank=True, help_text="level of a new fracture", null=True),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which lesion",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical course event",
                "verbose_name_plural": "historical course events",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalLeak",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                (
                    "compartment",
                    models.CharField(
                        choices=[
                            ("basivertebral vein", "basivertebral vein"),
                            ("segmental or paravertebral vein", "segmental or paravertebral vein"),
                            ("vena cava or azygos vein", "vena cava or azygos vein"),
                            ("pulmonary", "pulmonary"),
                            ("cortical anterior", "cortical anterior"),
                            ("cortical lateral", "cortical lateral"),
                            ("disc superior", "disc superior"),
                            ("disc inferior", "disc inferior"),
                            ("disc", "disc"),
                            ("epidural or canal", "epidural or canal"),
                            ("foraminal", "foraminal"),
                            ("facet", "facet"),
                            ("intra-articular", "intra-articular"),
                            ("soft tissue", "soft tissue"),
                            ("pleural", "pleural"),
                            ("needle track", "needle track"),
                            ("other", "other"),
                            ("not stated", "not stated"),
                        ],
                        help_text="where",
                        max_length=100,
                    ),
                ),
                (
                    "definition",
                    models.TextField(blank=True, help_text="what counted as a leak", null=True),
                ),
                (
                    "symptomatic",
                    models.BooleanField(blank=True, help_text="it caused symptoms", null=True),
                ),
                (
                    "sequelae",
                    models.BooleanField(blank=True, help_text="it left sequelae", null=True),
                ),
                (
                    "intervention",
                    models.BooleanField(
                        blank=True, help_text="it needed a further intervention", null=True
                    ),
                ),
                ("volume_ml", models.FloatField(blank=True, help_text="volume", null=True)),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which lesion",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical leak",
                "verbose_name_plural": "historical leaks",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalMeeting",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                ("date", models.CharField(help_text="day of the meeting", max_length=10)),
                (
                    "chair_id",
                    models.TextField(blank=True, help_text="who led the meeting", null=True),
                ),
                (
                    "decision",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("cementoplasty", "cementoplasty"),
                            ("ablation and cementoplasty", "ablation and cementoplasty"),
                            ("ablation alone", "ablation alone"),
                            ("surgery first", "surgery first"),
                            ("radiotherapy", "radiotherapy"),
                            ("other treatment", "other treatment"),
                            ("decide later", "decide later"),
                            ("no treatment", "no treatment"),
                        ],
                        help_text="what was decided",
                        max_length=100,
                        null=True,
                    ),
                ),
                ("reason", models.TextField(blank=True, help_text="why, without names", null=True)),
                (
                    "conditions",
                    models.TextField(blank=True, help_text="what must be done before", null=True),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which lesion",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical meeting",
                "verbose_name_plural": "historical meetings",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalOpioidLine",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                (
                    "day",
                    models.FloatField(help_text="day after the procedure; 0 is just before it"),
                ),
                (
                    "drug",
                    models.CharField(
                        choices=[
                            ("none", "none"),
                            ("morphine", "morphine"),
                            ("oxycodone", "oxycodone"),
                            ("hydromorphone", "hydromorphone"),
                            ("codeine", "codeine"),
                            ("dextropropoxyphene", "dextropropoxyphene"),
                            ("tramadol", "tramadol"),
                            ("tapentadol", "tapentadol"),
                            ("hydrocodone", "hydrocodone"),
                            ("oxymorphone", "oxymorphone"),
                            ("methadone", "methadone"),
                            ("buprenorphine", "buprenorphine"),
                            ("fentanyl", "fentanyl"),
                            ("sufentanil", "sufentanil"),
                            ("pethidine", "pethidine"),
                        ],
                        help_text="opioid",
                        max_length=100,
                    ),
                ),
                (
                    "route",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("oral", "oral"),
                            ("rectal", "rectal"),
                            ("parenteral", "parenteral"),
                            ("sublingual", "sublingual"),
                            ("transdermal", "transdermal"),
                        ],
                        help_text="route",
                        max_length=100,
                        null=True,
                    ),
                ),
                ("dose", models.FloatField(help_text="dose: per day, or per hour for a patch")),
                (
                    "unit",
                    models.CharField(
                        choices=[("mg/day", "mg/day"), ("ug/day", "ug/day"), ("ug/h", "ug/h")],
                        help_text="unit of the dose",
                        max_length=100,
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which lesion",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical opioid line",
                "verbose_name_plural": "historical opioid lines",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalPainScore",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                (
                    "day",
                    models.FloatField(help_text="day after the procedure; 0 is just before it"),
                ),
                ("low", models.FloatField(help_text="score, or the lower end of an interval")),
                (
                    "high",
                    models.FloatField(blank=True, help_text="upper end of an interval", null=True),
                ),
                (
                    "instrument",
                    models.CharField(
                        blank=True,
                        choices=[("VAS", "VAS"), ("NRS", "NRS"), ("VRS", "VRS")],
                        help_text="instrument",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "recall",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("worst", "worst"),
                            ("average", "average"),
                            ("least", "least"),
                            ("now", "now"),
                        ],
                        help_text="what was asked for",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "activity",
                    models.CharField(
                        blank=True,
                        choices=[("rest", "rest"), ("movement", "movement")],
                        help_text="at rest or on movement",
                        max_length=100,
                        null=True,
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which lesion",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical pain score",
                "verbose_name_plural": "historical pain scores",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalPlanVersion",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                ("number", models.IntegerField(help_text="version, from 1")),
                (
                    "parent",
                    models.IntegerField(
                        blank=True, help_text="version it was made from", null=True
                    ),
                ),
                ("made_by", models.TextField(blank=True, help_text="who made it", null=True)),
                ("made_at", models.TextField(blank=True, help_text="made: moment, UTC", null=True)),
                (
                    "why",
                    models.TextField(blank=True, help_text="what was changed and why", null=True),
                ),
                (
                    "techniques",
                    models.JSONField(blank=True, help_text="in the order to be done", null=True),
                ),
                ("route", models.TextField(blank=True, help_text="way of the needle", null=True)),
                ("guidance", models.JSONField(blank=True, help_text="image guidance", null=True)),
                (
                    "needles",
                    models.IntegerField(blank=True, help_text="number of bone needles", null=True),
                ),
                (
                    "needle_gauge",
                    models.IntegerField(
                        blank=True, help_text="gauge of the thickest needle", null=True
                    ),
                ),
                ("cement", models.TextField(blank=True, help_text="cement", null=True)),
                (
                    "cement_ml",
                    models.FloatField(blank=True, help_text="cement to be injected", null=True),
                ),
                (
                    "stop_ml",
                    models.FloatField(blank=True, help_text="volume not to pass", null=True),
                ),
                (
                    "ablation",
                    models.TextField(
                        blank=True, help_text="ablation: device, power, time", null=True
                    ),
                ),
                (
                    "protection",
                    models.TextField(
                        blank=True, help_text="protection of nerves and skin", null=True
                    ),
                ),
                (
                    "verdict",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("ok", "ok"),
                            ("caution", "caution"),
                            ("stop", "stop"),
                            ("unknown", "unknown"),
                        ],
                        help_text="worst verdict of the plan",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "plan_sha256",
                    models.TextField(
                        blank=True, help_text="hash of the computed plan's file", null=True
                    ),
                ),
                (
                    "approved_by",
                    models.TextField(blank=True, help_text="who approved it", null=True),
                ),
                (
                    "approved_at",
                    models.TextField(blank=True, help_text="approved: moment, UTC", null=True),
                ),
                (
                    "revoked_at",
                    models.TextField(
                        blank=True, help_text="approval revoked: moment, UTC", null=True
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which lesion",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical plan version",
                "verbose_name_plural": "historical plan versions",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalReferral",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                ("date", models.CharField(help_text="day of the referral", max_length=10)),
                (
                    "referrer_id",
                    models.TextField(
                        blank=True, help_text="who refers, by the name of the account", null=True
                    ),
                ),
                (
                    "specialty",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("radiology", "radiology"),
                            ("oncology", "oncology"),
                            ("radiotherapy", "radiotherapy"),
                            ("orthopaedics", "orthopaedics"),
                            ("spinal surgery", "spinal surgery"),
                            ("pain management", "pain management"),
                            ("palliative care", "palliative care"),
                            ("other", "other"),
                        ],
                        help_text="specialty of who refers",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "urgency",
                    models.CharField(
                        blank=True,
                        choices=[("routine", "routine"), ("soon", "soon"), ("urgent", "urgent")],
                        help_text="urgency",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "question",
                    models.TextField(
                        blank=True, help_text="what is asked, without names", null=True
                    ),
                ),
                (
                    "pain_now",
                    models.FloatField(blank=True, help_text="pain at referral", null=True),
                ),
                (
                    "can_lie_prone",
                    models.BooleanField(blank=True, help_text="can lie prone", null=True),
                ),
                (
                    "anticoagulant",
                    models.BooleanField(
                        blank=True,
                        help_text="takes an anticoagulant or antiplatelet drug",
                        null=True,
                    ),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which lesion",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical referral",
                "verbose_name_plural": "historical referrals",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalStep",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                ("number", models.IntegerField(help_text="first, second, ... step")),
                ("at", models.TextField(help_text="moved: moment, UTC")),
                ("by", models.TextField(help_text="who moved it")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("referred", "referred"),
                            ("selection", "selection"),
                            ("meeting", "meeting"),
                            ("consent", "consent"),
                            ("planning", "planning"),
                            ("ready", "ready"),
                            ("treated", "treated"),
                            ("follow-up", "follow-up"),
                            ("closed", "closed"),
                            ("declined", "declined"),
                        ],
                        help_text="state it is in since",
                        max_length=100,
                    ),
                ),
                (
                    "overridden",
                    models.JSONField(blank=True, help_text="gates that were not open", null=True),
                ),
                (
                    "reason",
                    models.TextField(
                        blank=True,
                        help_text="why they were overridden, or why this step",
                        null=True,
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which lesion",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical step",
                "verbose_name_plural": "historical steps",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalStudy",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                ("study_id", models.TextField(db_index=True)),
                ("title", models.TextField()),
                ("unit", models.TextField(blank=True, null=True)),
                ("period_start", models.CharField(blank=True, max_length=10, null=True)),
                ("period_end", models.CharField(blank=True, max_length=10, null=True)),
                ("source", models.TextField(blank=True, null=True)),
                ("pain_recall", models.TextField(blank=True, null=True)),
                ("pain_activity", models.TextField(blank=True, null=True)),
                ("note", models.TextField(blank=True, null=True)),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "historical study",
                "verbose_name_plural": "historical studys",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalVisit",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                (
                    "day",
                    models.FloatField(help_text="day after the procedure; 0 is just before it"),
                ),
                (
                    "walking",
                    models.IntegerField(
                        blank=True, help_text="walking score, 4 is best", null=True
                    ),
                ),
                (
                    "ecog",
                    models.IntegerField(blank=True, help_text="ECOG performance status", null=True),
                ),
                (
                    "karnofsky",
                    models.IntegerField(blank=True, help_text="Karnofsky index", null=True),
                ),
                (
                    "mobility",
                    models.CharField(
                        blank=True,
                        choices=[("improved", "improved"), ("same", "same"), ("worse", "worse")],
                        help_text="mobility since before",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "medication",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("stopped", "stopped"),
                            ("at most half", "at most half"),
                            ("reduced", "reduced"),
                            ("same", "same"),
                            ("increased", "increased"),
                        ],
                        help_text="analgesics since before",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "activities_restored",
                    models.BooleanField(
                        blank=True,
                        help_text="normal activities of daily living restored",
                        null=True,
                    ),
                ),
                (
                    "satisfied",
                    models.BooleanField(
                        blank=True, help_text="satisfied with the procedure", null=True
                    ),
                ),
                (
                    "would_have_again",
                    models.BooleanField(
                        blank=True, help_text="would have the procedure again", null=True
                    ),
                ),
                (
                    "missing_reason",
                    models.TextField(blank=True, help_text="why no score was taken", null=True),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which lesion",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical visit",
                "verbose_name_plural": "historical visits",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalVote",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                ("date", models.CharField(help_text="day of the meeting", max_length=10)),
                ("member_id", models.TextField(help_text="member, by the name of the account")),
                (
                    "specialty",
                    models.CharField(
                        choices=[
                            ("radiology", "radiology"),
                            ("oncology", "oncology"),
                            ("radiotherapy", "radiotherapy"),
                            ("orthopaedics", "orthopaedics"),
                            ("spinal surgery", "spinal surgery"),
                            ("pain management", "pain management"),
                            ("palliative care", "palliative care"),
                            ("other", "other"),
                        ],
                        help_text="specialty of the member",
                        max_length=100,
                    ),
                ),
                (
                    "vote",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("for", "for"),
                            ("against", "against"),
                            ("abstained", "abstained"),
                        ],
                        help_text="vote",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "signed_at",
                    models.TextField(blank=True, help_text="signed: moment, UTC", null=True),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which lesion",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical vote",
                "verbose_name_plural": "historical votes",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.AddField(
            model_name="lesion",
            name="patient",
            field=models.ForeignKey(
                help_text="whose lesion",
                on_delete=django.db.models.deletion.PROTECT,
                related_name="lesions",
                to="registry.patient",
            ),
        ),
        migrations.CreateModel(
            name="HistoricalDeath",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                (
                    "date",
                    models.CharField(
                        blank=True, help_text="day of death", max_length=10, null=True
                    ),
                ),
                (
                    "day",
                    models.FloatField(
                        blank=True, help_text="days after the patient's first procedure", null=True
                    ),
                ),
                ("cause", models.TextField(blank=True, help_text="cause", null=True)),
                (
                    "related",
                    models.BooleanField(
                        blank=True, help_text="related to the procedure", null=True
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "patient",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="who",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.patient",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical death",
                "verbose_name_plural": "historical deaths",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="Person",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("role", models.CharField(max_length=20)),
                ("specialty", models.TextField(blank=True, default="")),
                ("language", models.CharField(default="en", max_length=10)),
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="person",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Procedure",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("procedure_id", models.TextField(help_text="name of the procedure")),
                (
                    "date",
                    models.CharField(
                        blank=True, help_text="day of the procedure", max_length=10, null=True
                    ),
                ),
                (
                    "techniques",
                    models.JSONField(blank=True, help_text="in the order done", null=True),
                ),
                (
                    "operator_id",
                    models.TextField(blank=True, help_text="operator, by pseudonym", null=True),
                ),
                (
                    "anaesthesia",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("general", "general"),
                            ("sedation and local", "sedation and local"),
                            ("local", "local"),
                            ("regional", "regional"),
                            ("other", "other"),
                        ],
                        help_text="anaesthesia",
                        max_length=100,
                        null=True,
                    ),
                ),
                ("guidance", models.JSONField(blank=True, help_text="image guidance", null=True)),
                (
                    "needles",
                    models.IntegerField(blank=True, help_text="number of bone needles", null=True),
                ),
                (
                    "needle_gauge",
                    models.IntegerField(
                        blank=True, help_text="gauge of the thickest needle", null=True
                    ),
                ),
                (
                    "cement_ml",
                    models.FloatField(blank=True, help_text="cement injected", null=True),
                ),
                (
                    "injection_start_s",
                    models.FloatField(
                        blank=True, help_text="start of injection after mixing", null=True
                    ),
                ),
                (
                    "cement_instructions_followed",
                    models.BooleanField(
                        blank=True, help_text="cement made as its maker instructs", null=True
                    ),
                ),
                (
                    "leak_watch",
                    models.JSONField(
                        blank=True, help_text="what the injection went through, in order", null=True
                    ),
                ),
                (
                    "technical_success",
                    models.BooleanField(blank=True, help_text="technically successful", null=True),
                ),
                (
                    "success_definition",
                    models.TextField(blank=True, help_text="what was called success", null=True),
                ),
                (
                    "filling",
                    models.CharField(
                        blank=True,
                        choices=[("good", "good"), ("fair", "fair"), ("poor", "poor")],
                        help_text="filling on the CT afterwards",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "leak_assessed",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("CT", "CT"),
                            ("cone-beam CT", "cone-beam CT"),
                            ("radiograph", "radiograph"),
                            ("not looked for", "not looked for"),
                        ],
                        help_text="how leakage was looked for",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "leak_found",
                    models.BooleanField(
                        blank=True, help_text="cement outside the bone was found", null=True
                    ),
                ),
                (
                    "mobilised_h",
                    models.FloatField(blank=True, help_text="first mobilised after", null=True),
                ),
                (
                    "fluoroscopy_min",
                    models.FloatField(blank=True, help_text="fluoroscopy time", null=True),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        help_text="which lesion",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="procedures",
                        to="registry.lesion",
                    ),
                ),
                (
                    "study",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="procedures_in",
                        to="registry.study",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("procedure_id", ""), _negated=True),
                        name="procedures_procedure_id_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("operator_id", ""), _negated=True),
                        name="procedures_operator_id_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "anaesthesia__in",
                                ("general", "sedation and local", "local", "regional", "other"),
                            )
                        ),
                        name="procedures_anaesthesia_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("needles__gte", 1)), name="procedures_needles_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("needles__lte", 20)), name="procedures_needles_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("needle_gauge__gte", 8)),
                        name="procedures_needle_gauge_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("needle_gauge__lte", 20)),
                        name="procedures_needle_gauge_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cement_ml__gte", 0)), name="procedures_cement_ml_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cement_ml__lte", 100)), name="procedures_cement_ml_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("injection_start_s__gte", 0)),
                        name="procedures_injection_start_s_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("injection_start_s__lte", 7200)),
                        name="procedures_injection_start_s_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("success_definition", ""), _negated=True),
                        name="procedures_success_definition_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("filling__in", ("good", "fair", "poor"))),
                        name="procedures_filling_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "leak_assessed__in",
                                ("CT", "cone-beam CT", "radiograph", "not looked for"),
                            )
                        ),
                        name="procedures_leak_assessed_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("mobilised_h__gte", 0)), name="procedures_mobilised_h_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("mobilised_h__lte", 2400)),
                        name="procedures_mobilised_h_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("fluoroscopy_min__gte", 0)),
                        name="procedures_fluoroscopy_min_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("fluoroscopy_min__lte", 600)),
                        name="procedures_fluoroscopy_min_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("note", ""), _negated=True), name="procedures_note_a"
                    ),
                    models.UniqueConstraint(
                        models.F("study"), models.F("procedure_id"), name="procedures_once"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="HistoricalInjectionEvent",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                ("second", models.FloatField(help_text="time after mixing")),
                (
                    "event",
                    models.CharField(
                        choices=[
                            ("injecting", "injecting"),
                            ("leak detected", "leak detected"),
                            ("waiting to harden", "waiting to harden"),
                            ("repositioning", "repositioning"),
                            ("resumed", "resumed"),
                            ("finished", "finished"),
                        ],
                        help_text="what happened",
                        max_length=100,
                    ),
                ),
                (
                    "compartment",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("basivertebral vein", "basivertebral vein"),
                            ("segmental or paravertebral vein", "segmental or paravertebral vein"),
                            ("vena cava or azygos vein", "vena cava or azygos vein"),
                            ("pulmonary", "pulmonary"),
                            ("cortical anterior", "cortical anterior"),
                            ("cortical lateral", "cortical lateral"),
                            ("disc superior", "disc superior"),
                            ("disc inferior", "disc inferior"),
                            ("disc", "disc"),
                            ("epidural or canal", "epidural or canal"),
                            ("foraminal", "foraminal"),
                            ("facet", "facet"),
                            ("intra-articular", "intra-articular"),
                            ("soft tissue", "soft tissue"),
                            ("pleural", "pleural"),
                            ("needle track", "needle track"),
                            ("other", "other"),
                            ("not stated", "not stated"),
                        ],
                        help_text="where the leak was seen",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "volume_ml",
                    models.FloatField(blank=True, help_text="injected until then", null=True),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "procedure",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which procedure",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.procedure",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical injection event",
                "verbose_name_plural": "historical injection events",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalInjection",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                ("number", models.IntegerField(help_text="first, second, ... injection")),
                ("cement", models.TextField(blank=True, help_text="cement", null=True)),
                ("lot", models.TextField(blank=True, help_text="lot number", null=True)),
                (
                    "room_c",
                    models.FloatField(blank=True, help_text="temperature of the room", null=True),
                ),
                (
                    "start_s",
                    models.FloatField(blank=True, help_text="start after mixing", null=True),
                ),
                ("end_s", models.FloatField(blank=True, help_text="end after mixing", null=True)),
                (
                    "volume_ml",
                    models.FloatField(blank=True, help_text="cement injected", null=True),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "procedure",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which procedure",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.procedure",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical injection",
                "verbose_name_plural": "historical injections",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalDevice",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("needle", "needle"),
                            ("cement", "cement"),
                            ("electrode", "electrode"),
                            ("antenna", "antenna"),
                            ("cryoprobe", "cryoprobe"),
                            ("catheter", "catheter"),
                            ("screw", "screw"),
                            ("other", "other"),
                        ],
                        help_text="what it is",
                        max_length=100,
                    ),
                ),
                ("name", models.TextField(help_text="maker's name of it")),
                ("maker", models.TextField(blank=True, help_text="maker", null=True)),
                ("lot", models.TextField(blank=True, help_text="lot number", null=True)),
                (
                    "udi",
                    models.TextField(blank=True, help_text="unique device identifier", null=True),
                ),
                (
                    "radiopacifier",
                    models.TextField(blank=True, help_text="radiopacifier of a cement", null=True),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "procedure",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which procedure",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.procedure",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical device",
                "verbose_name_plural": "historical devices",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalAblationSession",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                ("number", models.IntegerField(help_text="first, second, ... application")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("radiofrequency", "radiofrequency"),
                            ("microwave", "microwave"),
                            ("cryo", "cryo"),
                            ("HIFU", "HIFU"),
                            ("plasma", "plasma"),
                        ],
                        help_text="kind",
                        max_length=100,
                    ),
                ),
                ("device", models.TextField(blank=True, help_text="device", null=True)),
                (
                    "probes",
                    models.IntegerField(blank=True, help_text="number of probes", null=True),
                ),
                ("power_w", models.FloatField(blank=True, help_text="power", null=True)),
                (
                    "target_c",
                    models.FloatField(blank=True, help_text="target temperature", null=True),
                ),
                (
                    "seconds",
                    models.FloatField(blank=True, help_text="time at power or freezing", null=True),
                ),
                ("cycles", models.IntegerField(blank=True, help_text="freezing cycles", null=True)),
                (
                    "same_track",
                    models.BooleanField(
                        blank=True, help_text="cement went in by the same track", null=True
                    ),
                ),
                (
                    "nerve_c",
                    models.FloatField(
                        blank=True, help_text="warmest or coldest at a nerve, measured", null=True
                    ),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "procedure",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which procedure",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.procedure",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical ablation session",
                "verbose_name_plural": "historical ablation sessions",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.AddField(
            model_name="patient",
            name="study",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="patients_in",
                to="registry.study",
            ),
        ),
        migrations.AddField(
            model_name="lesion",
            name="study",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="lesions_in",
                to="registry.study",
            ),
        ),
        migrations.CreateModel(
            name="Imaging",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("image_id", models.TextField(help_text="name of the image study")),
                (
                    "date",
                    models.CharField(
                        blank=True, help_text="day it was made", max_length=10, null=True
                    ),
                ),
                (
                    "modality",
                    models.CharField(
                        choices=[
                            ("CT", "CT"),
                            ("MR", "MR"),
                            ("PET-CT", "PET-CT"),
                            ("radiograph", "radiograph"),
                            ("cone-beam CT", "cone-beam CT"),
                            ("bone scan", "bone scan"),
                            ("other", "other"),
                        ],
                        help_text="modality",
                        max_length=100,
                    ),
                ),
                (
                    "purpose",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("diagnosis", "diagnosis"),
                            ("planning", "planning"),
                            ("during", "during"),
                            ("after", "after"),
                            ("follow-up", "follow-up"),
                        ],
                        help_text="what for",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "sha256",
                    models.TextField(
                        blank=True, help_text="hash of the image as it is kept", null=True
                    ),
                ),
                (
                    "slices",
                    models.IntegerField(blank=True, help_text="number of slices", null=True),
                ),
                (
                    "thickness_mm",
                    models.FloatField(blank=True, help_text="slice thickness", null=True),
                ),
                (
                    "deidentified",
                    models.BooleanField(
                        blank=True, help_text="freed of what names the patient", null=True
                    ),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        help_text="which lesion",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="images",
                        to="registry.lesion",
                    ),
                ),
                (
                    "study",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="images_in",
                        to="registry.study",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("image_id", ""), _negated=True),
                        name="images_image_id_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "modality__in",
                                (
                                    "CT",
                                    "MR",
                                    "PET-CT",
                                    "radiograph",
                                    "cone-beam CT",
                                    "bone scan",
                                    "other",
                                ),
                            )
                        ),
                        name="images_modality_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "purpose__in",
                                ("diagnosis", "planning", "during", "after", "follow-up"),
                            )
                        ),
                        name="images_purpose_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("sha256", ""), _negated=True), name="images_sha256_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("slices__gte", 1)), name="images_slices_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("slices__lte", 20000)), name="images_slices_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("thickness_mm__gte", 0.05)),
                        name="images_thickness_mm_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("thickness_mm__lte", 50)), name="images_thickness_mm_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("note", ""), _negated=True), name="images_note_a"
                    ),
                    models.UniqueConstraint(
                        models.F("study"), models.F("image_id"), name="images_once"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="HistoricalSimulationRun",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                ("run_id", models.TextField(help_text="name of the run")),
                (
                    "plan_number",
                    models.IntegerField(
                        blank=True, help_text="version of the plan it belongs to", null=True
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("plan", "plan"),
                            ("ablation", "ablation"),
                            ("injection", "injection"),
                            ("leak forecast", "leak forecast"),
                            ("strength", "strength"),
                            ("assessment", "assessment"),
                        ],
                        help_text="what was computed",
                        max_length=100,
                    ),
                ),
                (
                    "started_at",
                    models.TextField(blank=True, help_text="started: moment, UTC", null=True),
                ),
                ("seconds", models.FloatField(blank=True, help_text="time it took", null=True)),
                ("seed", models.BigIntegerField(blank=True, help_text="seed", null=True)),
                (
                    "trocar_version",
                    models.TextField(blank=True, help_text="version of trocar", null=True),
                ),
                (
                    "inputs_sha256",
                    models.TextField(blank=True, help_text="hash of its inputs", null=True),
                ),
                (
                    "facts_sha256",
                    models.TextField(
                        blank=True, help_text="hash of the tables of facts it used", null=True
                    ),
                ),
                (
                    "verdict",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("ok", "ok"),
                            ("caution", "caution"),
                            ("stop", "stop"),
                            ("unknown", "unknown"),
                        ],
                        help_text="worst verdict",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "result_sha256",
                    models.TextField(blank=True, help_text="hash of its result's file", null=True),
                ),
                (
                    "summary",
                    models.TextField(
                        blank=True, help_text="what it found, in a sentence", null=True
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which lesion",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.lesion",
                    ),
                ),
                (
                    "study",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.study",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical simulation run",
                "verbose_name_plural": "historical simulation runs",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalProcedure",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                ("procedure_id", models.TextField(help_text="name of the procedure")),
                (
                    "date",
                    models.CharField(
                        blank=True, help_text="day of the procedure", max_length=10, null=True
                    ),
                ),
                (
                    "techniques",
                    models.JSONField(blank=True, help_text="in the order done", null=True),
                ),
                (
                    "operator_id",
                    models.TextField(blank=True, help_text="operator, by pseudonym", null=True),
                ),
                (
                    "anaesthesia",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("general", "general"),
                            ("sedation and local", "sedation and local"),
                            ("local", "local"),
                            ("regional", "regional"),
                            ("other", "other"),
                        ],
                        help_text="anaesthesia",
                        max_length=100,
                        null=True,
                    ),
                ),
                ("guidance", models.JSONField(blank=True, help_text="image guidance", null=True)),
                (
                    "needles",
                    models.IntegerField(blank=True, help_text="number of bone needles", null=True),
                ),
                (
                    "needle_gauge",
                    models.IntegerField(
                        blank=True, help_text="gauge of the thickest needle", null=True
                    ),
                ),
                (
                    "cement_ml",
                    models.FloatField(blank=True, help_text="cement injected", null=True),
                ),
                (
                    "injection_start_s",
                    models.FloatField(
                        blank=True, help_text="start of injection after mixing", null=True
                    ),
                ),
                (
                    "cement_instructions_followed",
                    models.BooleanField(
                        blank=True, help_text="cement made as its maker instructs", null=True
                    ),
                ),
                (
                    "leak_watch",
                    models.JSONField(
                        blank=True, help_text="what the injection went through, in order", null=True
                    ),
                ),
                (
                    "technical_success",
                    models.BooleanField(blank=True, help_text="technically successful", null=True),
                ),
                (
                    "success_definition",
                    models.TextField(blank=True, help_text="what was called success", null=True),
                ),
                (
                    "filling",
                    models.CharField(
                        blank=True,
                        choices=[("good", "good"), ("fair", "fair"), ("poor", "poor")],
                        help_text="filling on the CT afterwards",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "leak_assessed",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("CT", "CT"),
                            ("cone-beam CT", "cone-beam CT"),
                            ("radiograph", "radiograph"),
                            ("not looked for", "not looked for"),
                        ],
                        help_text="how leakage was looked for",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "leak_found",
                    models.BooleanField(
                        blank=True, help_text="cement outside the bone was found", null=True
                    ),
                ),
                (
                    "mobilised_h",
                    models.FloatField(blank=True, help_text="first mobilised after", null=True),
                ),
                (
                    "fluoroscopy_min",
                    models.FloatField(blank=True, help_text="fluoroscopy time", null=True),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which lesion",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.lesion",
                    ),
                ),
                (
                    "study",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.study",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical procedure",
                "verbose_name_plural": "historical procedures",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalPatient",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                ("patient_id", models.TextField(help_text="pseudonym")),
                (
                    "sex",
                    models.CharField(
                        blank=True,
                        choices=[("female", "female"), ("male", "male"), ("other", "other")],
                        help_text="sex",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "age_years",
                    models.FloatField(
                        blank=True, help_text="age at the first procedure", null=True
                    ),
                ),
                (
                    "primary",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("lung", "lung"),
                            ("breast", "breast"),
                            ("prostate", "prostate"),
                            ("kidney", "kidney"),
                            ("thyroid", "thyroid"),
                            ("myeloma", "myeloma"),
                            ("lymphoma", "lymphoma"),
                            ("colon", "colon"),
                            ("rectum", "rectum"),
                            ("stomach", "stomach"),
                            ("oesophagus", "oesophagus"),
                            ("pancreas", "pancreas"),
                            ("liver", "liver"),
                            ("gallbladder", "gallbladder"),
                            ("bladder", "bladder"),
                            ("other urological", "other urological"),
                            ("uterus", "uterus"),
                            ("cervix", "cervix"),
                            ("ovary", "ovary"),
                            ("head and neck", "head and neck"),
                            ("melanoma", "melanoma"),
                            ("sarcoma", "sarcoma"),
                            ("osteosarcoma", "osteosarcoma"),
                            ("carcinoid", "carcinoid"),
                            ("seminoma", "seminoma"),
                            ("unknown", "unknown"),
                            ("other", "other"),
                        ],
                        help_text="primary tumour",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "study",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.study",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical patient",
                "verbose_name_plural": "historical patients",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalLesion",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                ("lesion_id", models.TextField(help_text="name of the lesion within the study")),
                (
                    "site",
                    models.CharField(
                        choices=[
                            ("C1", "C1"),
                            ("C2", "C2"),
                            ("C3", "C3"),
                            ("C4", "C4"),
                            ("C5", "C5"),
                            ("C6", "C6"),
                            ("C7", "C7"),
                            ("T1", "T1"),
                            ("T2", "T2"),
                            ("T3", "T3"),
                            ("T4", "T4"),
                            ("T5", "T5"),
                            ("T6", "T6"),
                            ("T7", "T7"),
                            ("T8", "T8"),
                            ("T9", "T9"),
                            ("T10", "T10"),
                            ("T11", "T11"),
                            ("T12", "T12"),
                            ("L1", "L1"),
                            ("L2", "L2"),
                            ("L3", "L3"),
                            ("L4", "L4"),
                            ("L5", "L5"),
                            ("T13", "T13"),
                            ("L6", "L6"),
                            ("cervical spine", "cervical spine"),
                            ("thoracic spine", "thoracic spine"),
                            ("lumbar spine", "lumbar spine"),
                            ("sacrum", "sacrum"),
                            ("S1", "S1"),
                            ("S2", "S2"),
                            ("S3", "S3"),
                            ("S4", "S4"),
                            ("S5", "S5"),
                            ("pelvis", "pelvis"),
                            ("ilium", "ilium"),
                            ("acetabulum", "acetabulum"),
                            ("ischium", "ischium"),
                            ("pubis", "pubis"),
                            ("pubic ramus", "pubic ramus"),
                            ("humerus", "humerus"),
                            ("femur", "femur"),
                            ("tibia", "tibia"),
                            ("scapula", "scapula"),
                            ("sternum", "sternum"),
                            ("rib", "rib"),
                            ("clavicle", "clavicle"),
                            ("other", "other"),
                        ],
                        help_text="bone or vertebral level",
                        max_length=100,
                    ),
                ),
                (
                    "side",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("left", "left"),
                            ("right", "right"),
                            ("both", "both"),
                            ("midline", "midline"),
                        ],
                        help_text="side",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "diagnosis",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("metastasis", "metastasis"),
                            ("primary malignant bone tumour", "primary malignant bone tumour"),
                            ("myeloma", "myeloma"),
                            ("osteoporotic fracture", "osteoporotic fracture"),
                            ("haemangioma", "haemangioma"),
                            ("benign cyst", "benign cyst"),
                            ("other", "other"),
                        ],
                        help_text="what the lesion is",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "nature",
                    models.CharField(
                        blank=True,
                        choices=[("lytic", "lytic"), ("mixed", "mixed"), ("blastic", "blastic")],
                        help_text="lytic, mixed or blastic",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "soft_tissue",
                    models.BooleanField(
                        blank=True, help_text="significant soft-tissue component", null=True
                    ),
                ),
                (
                    "posterior_wall_defect",
                    models.BooleanField(
                        blank=True, help_text="defect of the posterior vertebral wall", null=True
                    ),
                ),
                (
                    "volume_ml",
                    models.FloatField(blank=True, help_text="volume of the lesion", null=True),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "patient",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="whose lesion",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.patient",
                    ),
                ),
                (
                    "study",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.study",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical lesion",
                "verbose_name_plural": "historical lesions",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalImaging",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                ("image_id", models.TextField(help_text="name of the image study")),
                (
                    "date",
                    models.CharField(
                        blank=True, help_text="day it was made", max_length=10, null=True
                    ),
                ),
                (
                    "modality",
                    models.CharField(
                        choices=[
                            ("CT", "CT"),
                            ("MR", "MR"),
                            ("PET-CT", "PET-CT"),
                            ("radiograph", "radiograph"),
                            ("cone-beam CT", "cone-beam CT"),
                            ("bone scan", "bone scan"),
                            ("other", "other"),
                        ],
                        help_text="modality",
                        max_length=100,
                    ),
                ),
                (
                    "purpose",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("diagnosis", "diagnosis"),
                            ("planning", "planning"),
                            ("during", "during"),
                            ("after", "after"),
                            ("follow-up", "follow-up"),
                        ],
                        help_text="what for",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "sha256",
                    models.TextField(
                        blank=True, help_text="hash of the image as it is kept", null=True
                    ),
                ),
                (
                    "slices",
                    models.IntegerField(blank=True, help_text="number of slices", null=True),
                ),
                (
                    "thickness_mm",
                    models.FloatField(blank=True, help_text="slice thickness", null=True),
                ),
                (
                    "deidentified",
                    models.BooleanField(
                        blank=True, help_text="freed of what names the patient", null=True
                    ),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        help_text="which lesion",
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.lesion",
                    ),
                ),
                (
                    "study",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.study",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical imaging",
                "verbose_name_plural": "historical imagings",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalExclusion",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                ("patient_id", models.TextField(help_text="who")),
                (
                    "lesion_id",
                    models.TextField(blank=True, help_text="which lesion, if one only", null=True),
                ),
                (
                    "stage",
                    models.CharField(
                        choices=[
                            ("before treatment", "before treatment"),
                            ("from analysis", "from analysis"),
                        ],
                        help_text="when",
                        max_length=100,
                    ),
                ),
                ("reason", models.TextField(help_text="why")),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "study",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.study",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical exclusion",
                "verbose_name_plural": "historical exclusions",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalDataNote",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        auto_created=True, blank=True, db_index=True, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(db_index=True, default=uuid.uuid4, editable=False)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("history_change_reason", models.TextField(null=True)),
                ("note_id", models.TextField(help_text="name of the note")),
                ("text", models.TextField(help_text="what is to be known")),
                ("history_id", models.AutoField(primary_key=True, serialize=False)),
                ("history_date", models.DateTimeField(db_index=True)),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "history_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "study",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="registry.study",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical data note",
                "verbose_name_plural": "historical data notes",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="Exclusion",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("patient_id", models.TextField(help_text="who")),
                (
                    "lesion_id",
                    models.TextField(blank=True, help_text="which lesion, if one only", null=True),
                ),
                (
                    "stage",
                    models.CharField(
                        choices=[
                            ("before treatment", "before treatment"),
                            ("from analysis", "from analysis"),
                        ],
                        help_text="when",
                        max_length=100,
                    ),
                ),
                ("reason", models.TextField(help_text="why")),
                (
                    "study",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="exclusions_in",
                        to="registry.study",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("patient_id", ""), _negated=True),
                        name="exclusions_patient_id_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("lesion_id", ""), _negated=True),
                        name="exclusions_lesion_id_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("stage__in", ("before treatment", "from analysis"))),
                        name="exclusions_stage_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("reason", ""), _negated=True),
                        name="exclusions_reason_a",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="DataNote",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("note_id", models.TextField(help_text="name of the note")),
                ("text", models.TextField(help_text="what is to be known")),
                (
                    "study",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="notes_in",
                        to="registry.study",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("note_id", ""), _negated=True), name="notes_note_id_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("text", ""), _negated=True), name="notes_text_a"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Token",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.TextField()),
                ("sha256", models.CharField(max_length=64, unique=True)),
                ("scopes", models.JSONField(default=list)),
                ("made_at", models.CharField(max_length=32)),
                ("ends_at", models.CharField(max_length=32)),
                ("revoked_at", models.CharField(blank=True, default="", max_length=32)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="tokens",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Visit",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                (
                    "day",
                    models.FloatField(help_text="day after the procedure; 0 is just before it"),
                ),
                (
                    "walking",
                    models.IntegerField(
                        blank=True, help_text="walking score, 4 is best", null=True
                    ),
                ),
                (
                    "ecog",
                    models.IntegerField(blank=True, help_text="ECOG performance status", null=True),
                ),
                (
                    "karnofsky",
                    models.IntegerField(blank=True, help_text="Karnofsky index", null=True),
                ),
                (
                    "mobility",
                    models.CharField(
                        blank=True,
                        choices=[("improved", "improved"), ("same", "same"), ("worse", "worse")],
                        help_text="mobility since before",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "medication",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("stopped", "stopped"),
                            ("at most half", "at most half"),
                            ("reduced", "reduced"),
                            ("same", "same"),
                            ("increased", "increased"),
                        ],
                        help_text="analgesics since before",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "activities_restored",
                    models.BooleanField(
                        blank=True,
                        help_text="normal activities of daily living restored",
                        null=True,
                    ),
                ),
                (
                    "satisfied",
                    models.BooleanField(
                        blank=True, help_text="satisfied with the procedure", null=True
                    ),
                ),
                (
                    "would_have_again",
                    models.BooleanField(
                        blank=True, help_text="would have the procedure again", null=True
                    ),
                ),
                (
                    "missing_reason",
                    models.TextField(blank=True, help_text="why no score was taken", null=True),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        help_text="which lesion",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="visits",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("day__gte", -365)), name="visits_day_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("day__lte", 36500)), name="visits_day_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("walking__gte", 0)), name="visits_walking_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("walking__lte", 4)), name="visits_walking_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("ecog__gte", 0)), name="visits_ecog_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("ecog__lte", 5)), name="visits_ecog_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("karnofsky__gte", 0)), name="visits_karnofsky_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("karnofsky__lte", 100)), name="visits_karnofsky_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("mobility__in", ("improved", "same", "worse"))),
                        name="visits_mobility_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "medication__in",
                                ("stopped", "at most half", "reduced", "same", "increased"),
                            )
                        ),
                        name="visits_medication_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("missing_reason", ""), _negated=True),
                        name="visits_missing_reason_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("note", ""), _negated=True), name="visits_note_a"
                    ),
                    models.UniqueConstraint(
                        models.F("lesion"), models.F("day"), name="visits_once"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Vote",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("date", models.CharField(help_text="day of the meeting", max_length=10)),
                ("member_id", models.TextField(help_text="member, by the name of the account")),
                (
                    "specialty",
                    models.CharField(
                        choices=[
                            ("radiology", "radiology"),
                            ("oncology", "oncology"),
                            ("radiotherapy", "radiotherapy"),
                            ("orthopaedics", "orthopaedics"),
                            ("spinal surgery", "spinal surgery"),
                            ("pain management", "pain management"),
                            ("palliative care", "palliative care"),
                            ("other", "other"),
                        ],
                        help_text="specialty of the member",
                        max_length=100,
                    ),
                ),
                (
                    "vote",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("for", "for"),
                            ("against", "against"),
                            ("abstained", "abstained"),
                        ],
                        help_text="vote",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "signed_at",
                    models.TextField(blank=True, help_text="signed: moment, UTC", null=True),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        help_text="which lesion",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="votes",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("member_id", ""), _negated=True),
                        name="votes_member_id_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "specialty__in",
                                (
                                    "radiology",
                                    "oncology",
                                    "radiotherapy",
                                    "orthopaedics",
                                    "spinal surgery",
                                    "pain management",
                                    "palliative care",
                                    "other",
                                ),
                            )
                        ),
                        name="votes_specialty_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("vote__in", ("for", "against", "abstained"))),
                        name="votes_vote_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("signed_at", ""), _negated=True),
                        name="votes_signed_at_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("note", ""), _negated=True), name="votes_note_a"
                    ),
                    models.UniqueConstraint(
                        models.F("lesion"),
                        models.F("date"),
                        models.F("member_id"),
                        name="votes_once",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Case",
            fields=[
                (
                    "lesion",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="case",
                        serialize=False,
                        to="registry.lesion",
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("referred", "referred"),
                            ("selection", "selection"),
                            ("meeting", "meeting"),
                            ("consent", "consent"),
                            ("planning", "planning"),
                            ("ready", "ready"),
                            ("treated", "treated"),
                            ("follow-up", "follow-up"),
                            ("closed", "closed"),
                            ("declined", "declined"),
                        ],
                        default="referred",
                        max_length=20,
                    ),
                ),
                ("since", models.CharField(max_length=32)),
                ("operator", models.TextField(blank=True, default="")),
                ("referrer", models.TextField(blank=True, default="")),
                ("procedure_date", models.CharField(blank=True, default="", max_length=10)),
                ("last_visit_day", models.FloatField(null=True)),
                ("next_due", models.CharField(blank=True, default="", max_length=10)),
                ("due_what", models.TextField(blank=True, default="")),
                ("unsigned_plan", models.BooleanField(default=False)),
                ("missing_scores", models.PositiveIntegerField(default=0)),
                ("open_gates", models.PositiveIntegerField(default=0)),
                ("changed_at", models.CharField(max_length=32)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["state", "next_due"], name="registry_ca_state_6aa37a_idx"),
                    models.Index(fields=["next_due"], name="registry_ca_next_du_8c8e70_idx"),
                    models.Index(fields=["changed_at"], name="registry_ca_changed_207d08_idx"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Baseline",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                (
                    "decided_on",
                    models.CharField(
                        blank=True, help_text="day of the decision", max_length=10, null=True
                    ),
                ),
                (
                    "pain_present",
                    models.BooleanField(blank=True, help_text="the lesion hurts", null=True),
                ),
                (
                    "site_of_maximal_pain",
                    models.BooleanField(
                        blank=True, help_text="it is the site of maximal pain", null=True
                    ),
                ),
                (
                    "matches_imaging",
                    models.BooleanField(
                        blank=True, help_text="pain and imaging point to the same place", null=True
                    ),
                ),
                (
                    "failed_treatments",
                    models.JSONField(
                        blank=True,
                        help_text="treatments that failed to control the pain",
                        null=True,
                    ),
                ),
                (
                    "analgesia_maximised",
                    models.BooleanField(
                        blank=True,
                        help_text="oral or parenteral analgesia was maximised",
                        null=True,
                    ),
                ),
                (
                    "radiotherapy_given",
                    models.BooleanField(
                        blank=True, help_text="radiotherapy was given to this lesion", null=True
                    ),
                ),
                (
                    "radiotherapy_end",
                    models.CharField(
                        blank=True,
                        help_text="last day of radiotherapy to this lesion",
                        max_length=10,
                        null=True,
                    ),
                ),
                (
                    "radiotherapy_override",
                    models.TextField(
                        blank=True,
                        help_text="why not to wait for the effect of radiotherapy",
                        null=True,
                    ),
                ),
                (
                    "mdt_date",
                    models.CharField(
                        blank=True,
                        help_text="day of the multidisciplinary meeting",
                        max_length=10,
                        null=True,
                    ),
                ),
                (
                    "mdt_members",
                    models.JSONField(blank=True, help_text="specialties that took part", null=True),
                ),
                (
                    "spinal_surgery_access",
                    models.BooleanField(
                        blank=True, help_text="good access to a spinal surgery service", null=True
                    ),
                ),
                (
                    "surgical_opinion",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("cementoplasty", "cementoplasty"),
                            ("surgery first", "surgery first"),
                        ],
                        help_text="what a surgeon advised when asked about fixation or stabilisation",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "consent_date",
                    models.CharField(
                        blank=True, help_text="day the consent was signed", max_length=10, null=True
                    ),
                ),
                (
                    "audit_registered",
                    models.BooleanField(
                        blank=True, help_text="entered into the unit's audit", null=True
                    ),
                ),
                (
                    "governance_approved",
                    models.BooleanField(
                        blank=True, help_text="approved by clinical governance", null=True
                    ),
                ),
                (
                    "operator_trained",
                    models.BooleanField(
                        blank=True, help_text="operator trained to the appropriate level", null=True
                    ),
                ),
                (
                    "operator_cases",
                    models.IntegerField(
                        blank=True, help_text="procedures the operator has done before", null=True
                    ),
                ),
                (
                    "planned_ablation",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("none", "none"),
                            ("radiofrequency", "radiofrequency"),
                            ("microwave", "microwave"),
                            ("cryo", "cryo"),
                            ("HIFU", "HIFU"),
                            ("plasma", "plasma"),
                        ],
                        help_text="ablation planned with the cement",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "infection",
                    models.BooleanField(
                        blank=True, help_text="active local or systemic infection", null=True
                    ),
                ),
                (
                    "uncorrectable_coagulopathy",
                    models.BooleanField(
                        blank=True, help_text="coagulopathy that cannot be corrected", null=True
                    ),
                ),
                (
                    "cement_allergy",
                    models.BooleanField(blank=True, help_text="allergy to cement", null=True),
                ),
                (
                    "cord_compression_fragment",
                    models.BooleanField(
                        blank=True,
                        help_text="unstable fracture with deficit, or retropulsed fragment compressing the cord",
                        null=True,
                    ),
                ),
                (
                    "asymptomatic_stable",
                    models.BooleanField(
                        blank=True, help_text="the lesion is stable and does not hurt", null=True
                    ),
                ),
                (
                    "new_neuro_deficit",
                    models.BooleanField(
                        blank=True, help_text="new neurological deficit", null=True
                    ),
                ),
                ("myelopathy", models.BooleanField(blank=True, help_text="myelopathy", null=True)),
                (
                    "radicular_dominant",
                    models.BooleanField(
                        blank=True, help_text="radicular pain greater than axial pain", null=True
                    ),
                ),
                (
                    "cortical_defect",
                    models.BooleanField(
                        blank=True,
                        help_text="cortical defect other than the posterior wall",
                        null=True,
                    ),
                ),
                (
                    "joint_surface",
                    models.BooleanField(
                        blank=True, help_text="lesion reaches a joint surface", null=True
                    ),
                ),
                ("pregnancy", models.BooleanField(blank=True, help_text="pregnancy", null=True)),
                (
                    "severe_cardiopulmonary",
                    models.BooleanField(
                        blank=True, help_text="severe cardiopulmonary disease", null=True
                    ),
                ),
                (
                    "levels_per_session",
                    models.IntegerField(
                        blank=True, help_text="levels or lesions to be treated together", null=True
                    ),
                ),
                (
                    "inr",
                    models.FloatField(
                        blank=True, help_text="international normalised ratio", null=True
                    ),
                ),
                ("platelets_e9_l", models.FloatField(blank=True, help_text="platelets", null=True)),
                (
                    "superficial_extremity",
                    models.BooleanField(
                        blank=True,
                        help_text="superficial bone of an extremity, no ablation",
                        null=True,
                    ),
                ),
                (
                    "ecog",
                    models.IntegerField(blank=True, help_text="ECOG performance status", null=True),
                ),
                (
                    "karnofsky",
                    models.IntegerField(blank=True, help_text="Karnofsky index", null=True),
                ),
                (
                    "expected_survival_months",
                    models.FloatField(
                        blank=True, help_text="expected survival by the meeting", null=True
                    ),
                ),
                (
                    "mirels_size_fraction",
                    models.FloatField(blank=True, help_text="lesion over bone diameter", null=True),
                ),
                (
                    "mirels_pain",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("mild", "mild"),
                            ("moderate", "moderate"),
                            ("functional", "functional"),
                        ],
                        help_text="Mirels pain",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "peritrochanteric",
                    models.BooleanField(
                        blank=True, help_text="the lesion is peritrochanteric", null=True
                    ),
                ),
                (
                    "sins_pain",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("mechanical", "mechanical"),
                            ("occasional", "occasional"),
                            ("none", "none"),
                        ],
                        help_text="SINS pain",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "sins_alignment",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("normal", "normal"),
                            ("deformity", "deformity"),
                            ("subluxation", "subluxation"),
                        ],
                        help_text="SINS alignment",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "sins_collapse_percent",
                    models.FloatField(blank=True, help_text="vertebral body collapse", null=True),
                ),
                (
                    "sins_body_involved_percent",
                    models.FloatField(
                        blank=True, help_text="share of the body involved", null=True
                    ),
                ),
                (
                    "sins_posterolateral",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("none", "none"),
                            ("unilateral", "unilateral"),
                            ("bilateral", "bilateral"),
                        ],
                        help_text="SINS posterolateral involvement",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "escc",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("0", "0"),
                            ("1a", "1a"),
                            ("1b", "1b"),
                            ("1c", "1c"),
                            ("2", "2"),
                            ("3", "3"),
                        ],
                        help_text="epidural compression (ESCC, Bilsky)",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "harrington",
                    models.CharField(
                        blank=True,
                        choices=[("I", "I"), ("II", "II"), ("III", "III"), ("IV", "IV")],
                        help_text="Harrington acetabular class",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "visceral",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("none", "none"),
                            ("nodular removable", "nodular removable"),
                            ("nodular unremovable", "nodular unremovable"),
                            ("disseminated", "disseminated"),
                        ],
                        help_text="visceral or cerebral metastases",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "skeletal_lesions",
                    models.IntegerField(
                        blank=True,
                        help_text="number of skeletal metastases, this one included",
                        null=True,
                    ),
                ),
                (
                    "vertebral_lesions",
                    models.IntegerField(
                        blank=True,
                        help_text="number of vertebral bodies with metastases",
                        null=True,
                    ),
                ),
                (
                    "frankel",
                    models.CharField(
                        blank=True,
                        choices=[("A", "A"), ("B", "B"), ("C", "C"), ("D", "D"), ("E", "E")],
                        help_text="Frankel grade",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "previous_chemotherapy",
                    models.BooleanField(
                        blank=True, help_text="chemotherapy was given before", null=True
                    ),
                ),
                (
                    "targeted_drug",
                    models.BooleanField(
                        blank=True,
                        help_text="lung: treated with a molecular targeted drug",
                        null=True,
                    ),
                ),
                (
                    "hormone_dependent",
                    models.BooleanField(
                        blank=True, help_text="breast, prostate: hormone dependent", null=True
                    ),
                ),
                (
                    "crp_mg_dl",
                    models.FloatField(blank=True, help_text="C-reactive protein", null=True),
                ),
                (
                    "ldh_iu_l",
                    models.FloatField(blank=True, help_text="lactate dehydrogenase", null=True),
                ),
                ("albumin_g_dl", models.FloatField(blank=True, help_text="albumin", null=True)),
                (
                    "calcium_mg_dl",
                    models.FloatField(blank=True, help_text="calcium, corrected", null=True),
                ),
                (
                    "bilirubin_mg_dl",
                    models.FloatField(blank=True, help_text="total bilirubin", null=True),
                ),
                ("goals", models.TextField(blank=True, help_text="the patient's goals", null=True)),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        help_text="which lesion",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="selection",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("radiotherapy_override", ""), _negated=True),
                        name="selection_radiotherapy_override_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("surgical_opinion__in", ("cementoplasty", "surgery first"))
                        ),
                        name="selection_surgical_opinion_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("operator_cases__gte", 0)),
                        name="selection_operator_cases_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("operator_cases__lte", 100000)),
                        name="selection_operator_cases_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "planned_ablation__in",
                                ("none", "radiofrequency", "microwave", "cryo", "HIFU", "plasma"),
                            )
                        ),
                        name="selection_planned_ablation_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("levels_per_session__gte", 1)),
                        name="selection_levels_per_session_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("levels_per_session__lte", 30)),
                        name="selection_levels_per_session_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("inr__gte", 0.5)), name="selection_inr_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("inr__lte", 20)), name="selection_inr_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("platelets_e9_l__gte", 0)),
                        name="selection_platelets_e9_l_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("platelets_e9_l__lte", 3000)),
                        name="selection_platelets_e9_l_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("ecog__gte", 0)), name="selection_ecog_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("ecog__lte", 5)), name="selection_ecog_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("karnofsky__gte", 0)), name="selection_karnofsky_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("karnofsky__lte", 100)), name="selection_karnofsky_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("expected_survival_months__gte", 0)),
                        name="selection_expected_survival_months_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("expected_survival_months__lte", 600)),
                        name="selection_expected_survival_months_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("mirels_size_fraction__gte", 0)),
                        name="selection_mirels_size_fraction_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("mirels_size_fraction__lte", 1)),
                        name="selection_mirels_size_fraction_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("mirels_pain__in", ("mild", "moderate", "functional"))),
                        name="selection_mirels_pain_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("sins_pain__in", ("mechanical", "occasional", "none"))),
                        name="selection_sins_pain_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("sins_alignment__in", ("normal", "deformity", "subluxation"))
                        ),
                        name="selection_sins_alignment_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("sins_collapse_percent__gte", 0)),
                        name="selection_sins_collapse_percent_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("sins_collapse_percent__lte", 100)),
                        name="selection_sins_collapse_percent_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("sins_body_involved_percent__gte", 0)),
                        name="selection_sins_body_involved_percent_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("sins_body_involved_percent__lte", 100)),
                        name="selection_sins_body_involved_percent_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("sins_posterolateral__in", ("none", "unilateral", "bilateral"))
                        ),
                        name="selection_sins_posterolateral_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("escc__in", ("0", "1a", "1b", "1c", "2", "3"))),
                        name="selection_escc_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("harrington__in", ("I", "II", "III", "IV"))),
                        name="selection_harrington_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "visceral__in",
                                (
                                    "none",
                                    "nodular removable",
                                    "nodular unremovable",
                                    "disseminated",
                                ),
                            )
                        ),
                        name="selection_visceral_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("skeletal_lesions__gte", 1)),
                        name="selection_skeletal_lesions_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("skeletal_lesions__lte", 1000)),
                        name="selection_skeletal_lesions_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("vertebral_lesions__gte", 0)),
                        name="selection_vertebral_lesions_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("vertebral_lesions__lte", 30)),
                        name="selection_vertebral_lesions_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("frankel__in", ("A", "B", "C", "D", "E"))),
                        name="selection_frankel_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("crp_mg_dl__gte", 0)), name="selection_crp_mg_dl_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("crp_mg_dl__lte", 100)), name="selection_crp_mg_dl_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("ldh_iu_l__gte", 0)), name="selection_ldh_iu_l_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("ldh_iu_l__lte", 20000)), name="selection_ldh_iu_l_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("albumin_g_dl__gte", 0)),
                        name="selection_albumin_g_dl_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("albumin_g_dl__lte", 10)),
                        name="selection_albumin_g_dl_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("calcium_mg_dl__gte", 0)),
                        name="selection_calcium_mg_dl_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("calcium_mg_dl__lte", 30)),
                        name="selection_calcium_mg_dl_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("bilirubin_mg_dl__gte", 0)),
                        name="selection_bilirubin_mg_dl_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("bilirubin_mg_dl__lte", 80)),
                        name="selection_bilirubin_mg_dl_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("goals", ""), _negated=True), name="selection_goals_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("note", ""), _negated=True), name="selection_note_a"
                    ),
                    models.UniqueConstraint(models.F("lesion"), name="selection_once"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Assessment",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("date", models.CharField(help_text="day of the CT", max_length=10)),
                (
                    "image_id",
                    models.TextField(blank=True, help_text="which image study", null=True),
                ),
                ("read_by", models.TextField(blank=True, help_text="who read it", null=True)),
                ("cement_ml", models.FloatField(blank=True, help_text="cement found", null=True)),
                ("cement_low_ml", models.FloatField(blank=True, help_text="at least", null=True)),
                ("cement_high_ml", models.FloatField(blank=True, help_text="at most", null=True)),
                (
                    "fill_fraction",
                    models.FloatField(
                        blank=True, help_text="share of the lesion that is filled", null=True
                    ),
                ),
                (
                    "leak_found",
                    models.BooleanField(
                        blank=True, help_text="cement outside the bone was found", null=True
                    ),
                ),
                ("compartments", models.JSONField(blank=True, help_text="where", null=True)),
                (
                    "nearest_joint_mm",
                    models.FloatField(blank=True, help_text="cement to joint", null=True),
                ),
                (
                    "result_sha256",
                    models.TextField(blank=True, help_text="hash of the result's file", null=True),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        help_text="which lesion",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="assessments",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("image_id", ""), _negated=True),
                        name="assessments_image_id_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("read_by", ""), _negated=True),
                        name="assessments_read_by_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cement_ml__gte", 0)), name="assessments_cement_ml_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cement_ml__lte", 200)), name="assessments_cement_ml_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cement_low_ml__gte", 0)),
                        name="assessments_cement_low_ml_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cement_low_ml__lte", 200)),
                        name="assessments_cement_low_ml_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cement_high_ml__gte", 0)),
                        name="assessments_cement_high_ml_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cement_high_ml__lte", 200)),
                        name="assessments_cement_high_ml_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("fill_fraction__gte", 0)),
                        name="assessments_fill_fraction_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("fill_fraction__lte", 1)),
                        name="assessments_fill_fraction_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("nearest_joint_mm__gte", 0)),
                        name="assessments_nearest_joint_mm_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("nearest_joint_mm__lte", 500)),
                        name="assessments_nearest_joint_mm_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("result_sha256", ""), _negated=True),
                        name="assessments_result_sha256_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("note", ""), _negated=True), name="assessments_note_a"
                    ),
                    models.UniqueConstraint(
                        models.F("lesion"), models.F("date"), name="assessments_once"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Complication",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                (
                    "day",
                    models.FloatField(help_text="day after the procedure; 0 is just before it"),
                ),
                (
                    "event",
                    models.CharField(
                        choices=[
                            ("transient worsening of pain", "transient worsening of pain"),
                            ("fever", "fever"),
                            ("creatinine increase", "creatinine increase"),
                            ("cement embolus", "cement embolus"),
                            ("death from cement embolus", "death from cement embolus"),
                            ("nerve injury", "nerve injury"),
                            ("paralysis", "paralysis"),
                            ("vascular injury", "vascular injury"),
                            ("pathological fracture", "pathological fracture"),
                            ("infection", "infection"),
                            ("bleeding", "bleeding"),
                            ("thermal damage", "thermal damage"),
                            ("joint damage", "joint damage"),
                            ("pneumothorax", "pneumothorax"),
                            ("skin injury", "skin injury"),
                            ("device problem", "device problem"),
                            ("other", "other"),
                        ],
                        help_text="what happened",
                        max_length=100,
                    ),
                ),
                ("cirse", models.IntegerField(blank=True, help_text="CIRSE 2017 grade", null=True)),
                ("sir", models.IntegerField(blank=True, help_text="SIR 2017 grade", null=True)),
                ("ctcae", models.IntegerField(blank=True, help_text="CTCAE 5 grade", null=True)),
                (
                    "relation",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("needle", "needle"),
                            ("ablation", "ablation"),
                            ("cement", "cement"),
                            ("anaesthesia", "anaesthesia"),
                            ("disease", "disease"),
                            ("unknown", "unknown"),
                        ],
                        help_text="thought to come from",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "device_related",
                    models.BooleanField(blank=True, help_text="a device was involved", null=True),
                ),
                (
                    "yellow_card",
                    models.BooleanField(
                        blank=True, help_text="reported to the MHRA Yellow Card scheme", null=True
                    ),
                ),
                (
                    "sequelae",
                    models.BooleanField(blank=True, help_text="sequelae at 30 days", null=True),
                ),
                (
                    "temperature_c",
                    models.FloatField(blank=True, help_text="highest temperature", null=True),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        help_text="which lesion",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="complications",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("day__gte", 0)), name="complications_day_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("day__lte", 36500)), name="complications_day_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "event__in",
                                (
                                    "transient worsening of pain",
                                    "fever",
                                    "creatinine increase",
                                    "cement embolus",
                                    "death from cement embolus",
                                    "nerve injury",
                                    "paralysis",
                                    "vascular injury",
                                    "pathological fracture",
                                    "infection",
                                    "bleeding",
                                    "thermal damage",
                                    "joint damage",
                                    "pneumothorax",
                                    "skin injury",
                                    "device problem",
                                    "other",
                                ),
                            )
                        ),
                        name="complications_event_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cirse__gte", 1)), name="complications_cirse_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cirse__lte", 6)), name="complications_cirse_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("sir__gte", 1)), name="complications_sir_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("sir__lte", 5)), name="complications_sir_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("ctcae__gte", 1)), name="complications_ctcae_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("ctcae__lte", 5)), name="complications_ctcae_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "relation__in",
                                (
                                    "needle",
                                    "ablation",
                                    "cement",
                                    "anaesthesia",
                                    "disease",
                                    "unknown",
                                ),
                            )
                        ),
                        name="complications_relation_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("temperature_c__gte", 30)),
                        name="complications_temperature_c_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("temperature_c__lte", 45)),
                        name="complications_temperature_c_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("note", ""), _negated=True), name="complications_note_a"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Consent",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                (
                    "number",
                    models.IntegerField(help_text="first, second, ... consent of the lesion"),
                ),
                (
                    "date",
                    models.CharField(
                        blank=True,
                        help_text="day it was signed; empty while it is not",
                        max_length=10,
                        null=True,
                    ),
                ),
                (
                    "form_version",
                    models.TextField(
                        blank=True, help_text="version of the consent form", null=True
                    ),
                ),
                (
                    "taken_by",
                    models.TextField(blank=True, help_text="who spoke with the patient", null=True),
                ),
                ("techniques", models.JSONField(blank=True, help_text="consented to", null=True)),
                ("risks", models.JSONField(blank=True, help_text="risks spoken of", null=True)),
                (
                    "capacity",
                    models.BooleanField(
                        blank=True, help_text="the patient had capacity to consent", null=True
                    ),
                ),
                (
                    "interpreter",
                    models.BooleanField(blank=True, help_text="an interpreter helped", null=True),
                ),
                (
                    "withdrawn",
                    models.CharField(
                        blank=True, help_text="day it was withdrawn", max_length=10, null=True
                    ),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        help_text="which lesion",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="consents",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("number__gte", 1)), name="consents_number_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("number__lte", 99)), name="consents_number_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("form_version", ""), _negated=True),
                        name="consents_form_version_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("taken_by", ""), _negated=True),
                        name="consents_taken_by_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("note", ""), _negated=True), name="consents_note_a"
                    ),
                    models.UniqueConstraint(
                        models.F("lesion"), models.F("number"), name="consents_once"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="CourseEvent",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                (
                    "day",
                    models.FloatField(help_text="day after the procedure; 0 is just before it"),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("pain recurrence", "pain recurrence"),
                            ("new fracture adjacent", "new fracture adjacent"),
                            ("new fracture elsewhere", "new fracture elsewhere"),
                            ("retreatment", "retreatment"),
                            ("conversion to surgery", "conversion to surgery"),
                            ("lost to follow-up", "lost to follow-up"),
                            ("last seen", "last seen"),
                        ],
                        help_text="what happened",
                        max_length=100,
                    ),
                ),
                (
                    "level",
                    models.TextField(blank=True, help_text="level of a new fracture", null=True),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        help_text="which lesion",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="events",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("day__gte", 0)), name="events_day_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("day__lte", 36500)), name="events_day_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "kind__in",
                                (
                                    "pain recurrence",
                                    "new fracture adjacent",
                                    "new fracture elsewhere",
                                    "retreatment",
                                    "conversion to surgery",
                                    "lost to follow-up",
                                    "last seen",
                                ),
                            )
                        ),
                        name="events_kind_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("level", ""), _negated=True), name="events_level_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("note", ""), _negated=True), name="events_note_a"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Leak",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                (
                    "compartment",
                    models.CharField(
                        choices=[
                            ("basivertebral vein", "basivertebral vein"),
                            ("segmental or paravertebral vein", "segmental or paravertebral vein"),
                            ("vena cava or azygos vein", "vena cava or azygos vein"),
                            ("pulmonary", "pulmonary"),
                            ("cortical anterior", "cortical anterior"),
                            ("cortical lateral", "cortical lateral"),
                            ("disc superior", "disc superior"),
                            ("disc inferior", "disc inferior"),
                            ("disc", "disc"),
                            ("epidural or canal", "epidural or canal"),
                            ("foraminal", "foraminal"),
                            ("facet", "facet"),
                            ("intra-articular", "intra-articular"),
                            ("soft tissue", "soft tissue"),
                            ("pleural", "pleural"),
                            ("needle track", "needle track"),
                            ("other", "other"),
                            ("not stated", "not stated"),
                        ],
                        help_text="where",
                        max_length=100,
                    ),
                ),
                (
                    "definition",
                    models.TextField(blank=True, help_text="what counted as a leak", null=True),
                ),
                (
                    "symptomatic",
                    models.BooleanField(blank=True, help_text="it caused symptoms", null=True),
                ),
                (
                    "sequelae",
                    models.BooleanField(blank=True, help_text="it left sequelae", null=True),
                ),
                (
                    "intervention",
                    models.BooleanField(
                        blank=True, help_text="it needed a further intervention", null=True
                    ),
                ),
                ("volume_ml", models.FloatField(blank=True, help_text="volume", null=True)),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        help_text="which lesion",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="leaks",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "compartment__in",
                                (
                                    "basivertebral vein",
                                    "segmental or paravertebral vein",
                                    "vena cava or azygos vein",
                                    "pulmonary",
                                    "cortical anterior",
                                    "cortical lateral",
                                    "disc superior",
                                    "disc inferior",
                                    "disc",
                                    "epidural or canal",
                                    "foraminal",
                                    "facet",
                                    "intra-articular",
                                    "soft tissue",
                                    "pleural",
                                    "needle track",
                                    "other",
                                    "not stated",
                                ),
                            )
                        ),
                        name="leaks_compartment_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("definition", ""), _negated=True),
                        name="leaks_definition_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("volume_ml__gte", 0)), name="leaks_volume_ml_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("volume_ml__lte", 100)), name="leaks_volume_ml_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("note", ""), _negated=True), name="leaks_note_a"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Meeting",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("date", models.CharField(help_text="day of the meeting", max_length=10)),
                (
                    "chair_id",
                    models.TextField(blank=True, help_text="who led the meeting", null=True),
                ),
                (
                    "decision",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("cementoplasty", "cementoplasty"),
                            ("ablation and cementoplasty", "ablation and cementoplasty"),
                            ("ablation alone", "ablation alone"),
                            ("surgery first", "surgery first"),
                            ("radiotherapy", "radiotherapy"),
                            ("other treatment", "other treatment"),
                            ("decide later", "decide later"),
                            ("no treatment", "no treatment"),
                        ],
                        help_text="what was decided",
                        max_length=100,
                        null=True,
                    ),
                ),
                ("reason", models.TextField(blank=True, help_text="why, without names", null=True)),
                (
                    "conditions",
                    models.TextField(blank=True, help_text="what must be done before", null=True),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        help_text="which lesion",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="meetings",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("chair_id", ""), _negated=True),
                        name="meetings_chair_id_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "decision__in",
                                (
                                    "cementoplasty",
                                    "ablation and cementoplasty",
                                    "ablation alone",
                                    "surgery first",
                                    "radiotherapy",
                                    "other treatment",
                                    "decide later",
                                    "no treatment",
                                ),
                            )
                        ),
                        name="meetings_decision_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("reason", ""), _negated=True), name="meetings_reason_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("conditions", ""), _negated=True),
                        name="meetings_conditions_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("note", ""), _negated=True), name="meetings_note_a"
                    ),
                    models.UniqueConstraint(
                        models.F("lesion"), models.F("date"), name="meetings_once"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="OpioidLine",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                (
                    "day",
                    models.FloatField(help_text="day after the procedure; 0 is just before it"),
                ),
                (
                    "drug",
                    models.CharField(
                        choices=[
                            ("none", "none"),
                            ("morphine", "morphine"),
                            ("oxycodone", "oxycodone"),
                            ("hydromorphone", "hydromorphone"),
                            ("codeine", "codeine"),
                            ("dextropropoxyphene", "dextropropoxyphene"),
                            ("tramadol", "tramadol"),
                            ("tapentadol", "tapentadol"),
                            ("hydrocodone", "hydrocodone"),
                            ("oxymorphone", "oxymorphone"),
                            ("methadone", "methadone"),
                            ("buprenorphine", "buprenorphine"),
                            ("fentanyl", "fentanyl"),
                            ("sufentanil", "sufentanil"),
                            ("pethidine", "pethidine"),
                        ],
                        help_text="opioid",
                        max_length=100,
                    ),
                ),
                (
                    "route",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("oral", "oral"),
                            ("rectal", "rectal"),
                            ("parenteral", "parenteral"),
                            ("sublingual", "sublingual"),
                            ("transdermal", "transdermal"),
                        ],
                        help_text="route",
                        max_length=100,
                        null=True,
                    ),
                ),
                ("dose", models.FloatField(help_text="dose: per day, or per hour for a patch")),
                (
                    "unit",
                    models.CharField(
                        choices=[("mg/day", "mg/day"), ("ug/day", "ug/day"), ("ug/h", "ug/h")],
                        help_text="unit of the dose",
                        max_length=100,
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        help_text="which lesion",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="opioids",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("day__gte", -365)), name="opioids_day_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("day__lte", 36500)), name="opioids_day_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "drug__in",
                                (
                                    "none",
                                    "morphine",
                                    "oxycodone",
                                    "hydromorphone",
                                    "codeine",
                                    "dextropropoxyphene",
                                    "tramadol",
                                    "tapentadol",
                                    "hydrocodone",
                                    "oxymorphone",
                                    "methadone",
                                    "buprenorphine",
                                    "fentanyl",
                                    "sufentanil",
                                    "pethidine",
                                ),
                            )
                        ),
                        name="opioids_drug_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "route__in",
                                ("oral", "rectal", "parenteral", "sublingual", "transdermal"),
                            )
                        ),
                        name="opioids_route_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("dose__gte", 0)), name="opioids_dose_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("dose__lte", 100000)), name="opioids_dose_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("unit__in", ("mg/day", "ug/day", "ug/h"))),
                        name="opioids_unit_a",
                    ),
                    models.UniqueConstraint(
                        models.F("lesion"),
                        models.F("day"),
                        models.F("drug"),
                        django.db.models.functions.comparison.Coalesce(
                            models.F("route"), models.Value("")
                        ),
                        name="opioids_once",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="PainScore",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                (
                    "day",
                    models.FloatField(help_text="day after the procedure; 0 is just before it"),
                ),
                ("low", models.FloatField(help_text="score, or the lower end of an interval")),
                (
                    "high",
                    models.FloatField(blank=True, help_text="upper end of an interval", null=True),
                ),
                (
                    "instrument",
                    models.CharField(
                        blank=True,
                        choices=[("VAS", "VAS"), ("NRS", "NRS"), ("VRS", "VRS")],
                        help_text="instrument",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "recall",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("worst", "worst"),
                            ("average", "average"),
                            ("least", "least"),
                            ("now", "now"),
                        ],
                        help_text="what was asked for",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "activity",
                    models.CharField(
                        blank=True,
                        choices=[("rest", "rest"), ("movement", "movement")],
                        help_text="at rest or on movement",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        help_text="which lesion",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="pain",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("day__gte", -365)), name="pain_day_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("day__lte", 36500)), name="pain_day_b"
                    ),
                    models.CheckConstraint(condition=models.Q(("low__gte", 0)), name="pain_low_a"),
                    models.CheckConstraint(condition=models.Q(("low__lte", 10)), name="pain_low_b"),
                    models.CheckConstraint(
                        condition=models.Q(("high__gte", 0)), name="pain_high_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("high__lte", 10)), name="pain_high_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("instrument__in", ("VAS", "NRS", "VRS"))),
                        name="pain_instrument_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("recall__in", ("worst", "average", "least", "now"))),
                        name="pain_recall_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("activity__in", ("rest", "movement"))),
                        name="pain_activity_a",
                    ),
                    models.UniqueConstraint(
                        models.F("lesion"),
                        models.F("day"),
                        django.db.models.functions.comparison.Coalesce(
                            models.F("recall"), models.Value("")
                        ),
                        django.db.models.functions.comparison.Coalesce(
                            models.F("activity"), models.Value("")
                        ),
                        name="pain_once",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Death",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                (
                    "date",
                    models.CharField(
                        blank=True, help_text="day of death", max_length=10, null=True
                    ),
                ),
                (
                    "day",
                    models.FloatField(
                        blank=True, help_text="days after the patient's first procedure", null=True
                    ),
                ),
                ("cause", models.TextField(blank=True, help_text="cause", null=True)),
                (
                    "related",
                    models.BooleanField(
                        blank=True, help_text="related to the procedure", null=True
                    ),
                ),
                (
                    "patient",
                    models.ForeignKey(
                        help_text="who",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="deaths",
                        to="registry.patient",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("day__gte", 0)), name="deaths_day_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("day__lte", 36500)), name="deaths_day_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cause", ""), _negated=True), name="deaths_cause_a"
                    ),
                    models.UniqueConstraint(models.F("patient"), name="deaths_once"),
                ],
            },
        ),
        migrations.CreateModel(
            name="PlanVersion",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("number", models.IntegerField(help_text="version, from 1")),
                (
                    "parent",
                    models.IntegerField(
                        blank=True, help_text="version it was made from", null=True
                    ),
                ),
                ("made_by", models.TextField(blank=True, help_text="who made it", null=True)),
                ("made_at", models.TextField(blank=True, help_text="made: moment, UTC", null=True)),
                (
                    "why",
                    models.TextField(blank=True, help_text="what was changed and why", null=True),
                ),
                (
                    "techniques",
                    models.JSONField(blank=True, help_text="in the order to be done", null=True),
                ),
                ("route", models.TextField(blank=True, help_text="way of the needle", null=True)),
                ("guidance", models.JSONField(blank=True, help_text="image guidance", null=True)),
                (
                    "needles",
                    models.IntegerField(blank=True, help_text="number of bone needles", null=True),
                ),
                (
                    "needle_gauge",
                    models.IntegerField(
                        blank=True, help_text="gauge of the thickest needle", null=True
                    ),
                ),
                ("cement", models.TextField(blank=True, help_text="cement", null=True)),
                (
                    "cement_ml",
                    models.FloatField(blank=True, help_text="cement to be injected", null=True),
                ),
                (
                    "stop_ml",
                    models.FloatField(blank=True, help_text="volume not to pass", null=True),
                ),
                (
                    "ablation",
                    models.TextField(
                        blank=True, help_text="ablation: device, power, time", null=True
                    ),
                ),
                (
                    "protection",
                    models.TextField(
                        blank=True, help_text="protection of nerves and skin", null=True
                    ),
                ),
                (
                    "verdict",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("ok", "ok"),
                            ("caution", "caution"),
                            ("stop", "stop"),
                            ("unknown", "unknown"),
                        ],
                        help_text="worst verdict of the plan",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "plan_sha256",
                    models.TextField(
                        blank=True, help_text="hash of the computed plan's file", null=True
                    ),
                ),
                (
                    "approved_by",
                    models.TextField(blank=True, help_text="who approved it", null=True),
                ),
                (
                    "approved_at",
                    models.TextField(blank=True, help_text="approved: moment, UTC", null=True),
                ),
                (
                    "revoked_at",
                    models.TextField(
                        blank=True, help_text="approval revoked: moment, UTC", null=True
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        help_text="which lesion",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="plans",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("number__gte", 1)), name="plans_number_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("number__lte", 9999)), name="plans_number_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("parent__gte", 1)), name="plans_parent_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("parent__lte", 9999)), name="plans_parent_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("made_by", ""), _negated=True), name="plans_made_by_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("made_at", ""), _negated=True), name="plans_made_at_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("why", ""), _negated=True), name="plans_why_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("route", ""), _negated=True), name="plans_route_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("needles__gte", 1)), name="plans_needles_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("needles__lte", 20)), name="plans_needles_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("needle_gauge__gte", 8)), name="plans_needle_gauge_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("needle_gauge__lte", 20)), name="plans_needle_gauge_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cement", ""), _negated=True), name="plans_cement_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cement_ml__gte", 0)), name="plans_cement_ml_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cement_ml__lte", 100)), name="plans_cement_ml_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("stop_ml__gte", 0)), name="plans_stop_ml_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("stop_ml__lte", 100)), name="plans_stop_ml_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("ablation", ""), _negated=True), name="plans_ablation_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("protection", ""), _negated=True),
                        name="plans_protection_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("verdict__in", ("ok", "caution", "stop", "unknown"))),
                        name="plans_verdict_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("plan_sha256", ""), _negated=True),
                        name="plans_plan_sha256_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("approved_by", ""), _negated=True),
                        name="plans_approved_by_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("approved_at", ""), _negated=True),
                        name="plans_approved_at_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("revoked_at", ""), _negated=True),
                        name="plans_revoked_at_a",
                    ),
                    models.UniqueConstraint(
                        models.F("lesion"), models.F("number"), name="plans_once"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="InjectionEvent",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("second", models.FloatField(help_text="time after mixing")),
                (
                    "event",
                    models.CharField(
                        choices=[
                            ("injecting", "injecting"),
                            ("leak detected", "leak detected"),
                            ("waiting to harden", "waiting to harden"),
                            ("repositioning", "repositioning"),
                            ("resumed", "resumed"),
                            ("finished", "finished"),
                        ],
                        help_text="what happened",
                        max_length=100,
                    ),
                ),
                (
                    "compartment",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("basivertebral vein", "basivertebral vein"),
                            ("segmental or paravertebral vein", "segmental or paravertebral vein"),
                            ("vena cava or azygos vein", "vena cava or azygos vein"),
                            ("pulmonary", "pulmonary"),
                            ("cortical anterior", "cortical anterior"),
                            ("cortical lateral", "cortical lateral"),
                            ("disc superior", "disc superior"),
                            ("disc inferior", "disc inferior"),
                            ("disc", "disc"),
                            ("epidural or canal", "epidural or canal"),
                            ("foraminal", "foraminal"),
                            ("facet", "facet"),
                            ("intra-articular", "intra-articular"),
                            ("soft tissue", "soft tissue"),
                            ("pleural", "pleural"),
                            ("needle track", "needle track"),
                            ("other", "other"),
                            ("not stated", "not stated"),
                        ],
                        help_text="where the leak was seen",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "volume_ml",
                    models.FloatField(blank=True, help_text="injected until then", null=True),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                (
                    "procedure",
                    models.ForeignKey(
                        help_text="which procedure",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="injection_events",
                        to="registry.procedure",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("second__gte", 0)), name="injection_events_second_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("second__lte", 7200)), name="injection_events_second_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "event__in",
                                (
                                    "injecting",
                                    "leak detected",
                                    "waiting to harden",
                                    "repositioning",
                                    "resumed",
                                    "finished",
                                ),
                            )
                        ),
                        name="injection_events_event_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "compartment__in",
                                (
                                    "basivertebral vein",
                                    "segmental or paravertebral vein",
                                    "vena cava or azygos vein",
                                    "pulmonary",
                                    "cortical anterior",
                                    "cortical lateral",
                                    "disc superior",
                                    "disc inferior",
                                    "disc",
                                    "epidural or canal",
                                    "foraminal",
                                    "facet",
                                    "intra-articular",
                                    "soft tissue",
                                    "pleural",
                                    "needle track",
                                    "other",
                                    "not stated",
                                ),
                            )
                        ),
                        name="injection_events_compartment_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("volume_ml__gte", 0)),
                        name="injection_events_volume_ml_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("volume_ml__lte", 100)),
                        name="injection_events_volume_ml_b",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("note", ""), _negated=True),
                        name="injection_events_note_a",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Injection",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("number", models.IntegerField(help_text="first, second, ... injection")),
                ("cement", models.TextField(blank=True, help_text="cement", null=True)),
                ("lot", models.TextField(blank=True, help_text="lot number", null=True)),
                (
                    "room_c",
                    models.FloatField(blank=True, help_text="temperature of the room", null=True),
                ),
                (
                    "start_s",
                    models.FloatField(blank=True, help_text="start after mixing", null=True),
                ),
                ("end_s", models.FloatField(blank=True, help_text="end after mixing", null=True)),
                (
                    "volume_ml",
                    models.FloatField(blank=True, help_text="cement injected", null=True),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                (
                    "procedure",
                    models.ForeignKey(
                        help_text="which procedure",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="injections",
                        to="registry.procedure",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("number__gte", 1)), name="injections_number_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("number__lte", 99)), name="injections_number_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cement", ""), _negated=True),
                        name="injections_cement_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("lot", ""), _negated=True), name="injections_lot_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("room_c__gte", 5)), name="injections_room_c_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("room_c__lte", 40)), name="injections_room_c_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("start_s__gte", 0)), name="injections_start_s_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("start_s__lte", 7200)), name="injections_start_s_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("end_s__gte", 0)), name="injections_end_s_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("end_s__lte", 7200)), name="injections_end_s_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("volume_ml__gte", 0)), name="injections_volume_ml_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("volume_ml__lte", 100)), name="injections_volume_ml_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("note", ""), _negated=True), name="injections_note_a"
                    ),
                    models.UniqueConstraint(
                        models.F("procedure"), models.F("number"), name="injections_once"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Device",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("needle", "needle"),
                            ("cement", "cement"),
                            ("electrode", "electrode"),
                            ("antenna", "antenna"),
                            ("cryoprobe", "cryoprobe"),
                            ("catheter", "catheter"),
                            ("screw", "screw"),
                            ("other", "other"),
                        ],
                        help_text="what it is",
                        max_length=100,
                    ),
                ),
                ("name", models.TextField(help_text="maker's name of it")),
                ("maker", models.TextField(blank=True, help_text="maker", null=True)),
                ("lot", models.TextField(blank=True, help_text="lot number", null=True)),
                (
                    "udi",
                    models.TextField(blank=True, help_text="unique device identifier", null=True),
                ),
                (
                    "radiopacifier",
                    models.TextField(blank=True, help_text="radiopacifier of a cement", null=True),
                ),
                (
                    "procedure",
                    models.ForeignKey(
                        help_text="which procedure",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="devices",
                        to="registry.procedure",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "kind__in",
                                (
                                    "needle",
                                    "cement",
                                    "electrode",
                                    "antenna",
                                    "cryoprobe",
                                    "catheter",
                                    "screw",
                                    "other",
                                ),
                            )
                        ),
                        name="devices_kind_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("name", ""), _negated=True), name="devices_name_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("maker", ""), _negated=True), name="devices_maker_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("lot", ""), _negated=True), name="devices_lot_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("udi", ""), _negated=True), name="devices_udi_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("radiopacifier", ""), _negated=True),
                        name="devices_radiopacifier_a",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="AblationSession",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("number", models.IntegerField(help_text="first, second, ... application")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("radiofrequency", "radiofrequency"),
                            ("microwave", "microwave"),
                            ("cryo", "cryo"),
                            ("HIFU", "HIFU"),
                            ("plasma", "plasma"),
                        ],
                        help_text="kind",
                        max_length=100,
                    ),
                ),
                ("device", models.TextField(blank=True, help_text="device", null=True)),
                (
                    "probes",
                    models.IntegerField(blank=True, help_text="number of probes", null=True),
                ),
                ("power_w", models.FloatField(blank=True, help_text="power", null=True)),
                (
                    "target_c",
                    models.FloatField(blank=True, help_text="target temperature", null=True),
                ),
                (
                    "seconds",
                    models.FloatField(blank=True, help_text="time at power or freezing", null=True),
                ),
                ("cycles", models.IntegerField(blank=True, help_text="freezing cycles", null=True)),
                (
                    "same_track",
                    models.BooleanField(
                        blank=True, help_text="cement went in by the same track", null=True
                    ),
                ),
                (
                    "nerve_c",
                    models.FloatField(
                        blank=True, help_text="warmest or coldest at a nerve, measured", null=True
                    ),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                (
                    "procedure",
                    models.ForeignKey(
                        help_text="which procedure",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="ablations",
                        to="registry.procedure",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("number__gte", 1)), name="ablations_number_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("number__lte", 99)), name="ablations_number_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("kind__in", ("radiofrequency", "microwave", "cryo", "HIFU", "plasma"))
                        ),
                        name="ablations_kind_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("device", ""), _negated=True), name="ablations_device_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("probes__gte", 1)), name="ablations_probes_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("probes__lte", 20)), name="ablations_probes_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("power_w__gte", 0)), name="ablations_power_w_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("power_w__lte", 1000)), name="ablations_power_w_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("target_c__gte", -200)), name="ablations_target_c_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("target_c__lte", 150)), name="ablations_target_c_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("seconds__gte", 0)), name="ablations_seconds_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("seconds__lte", 36000)), name="ablations_seconds_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cycles__gte", 1)), name="ablations_cycles_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cycles__lte", 10)), name="ablations_cycles_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("nerve_c__gte", -60)), name="ablations_nerve_c_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("nerve_c__lte", 100)), name="ablations_nerve_c_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("note", ""), _negated=True), name="ablations_note_a"
                    ),
                    models.UniqueConstraint(
                        models.F("procedure"), models.F("number"), name="ablations_once"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Referral",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("date", models.CharField(help_text="day of the referral", max_length=10)),
                (
                    "referrer_id",
                    models.TextField(
                        blank=True, help_text="who refers, by the name of the account", null=True
                    ),
                ),
                (
                    "specialty",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("radiology", "radiology"),
                            ("oncology", "oncology"),
                            ("radiotherapy", "radiotherapy"),
                            ("orthopaedics", "orthopaedics"),
                            ("spinal surgery", "spinal surgery"),
                            ("pain management", "pain management"),
                            ("palliative care", "palliative care"),
                            ("other", "other"),
                        ],
                        help_text="specialty of who refers",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "urgency",
                    models.CharField(
                        blank=True,
                        choices=[("routine", "routine"), ("soon", "soon"), ("urgent", "urgent")],
                        help_text="urgency",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "question",
                    models.TextField(
                        blank=True, help_text="what is asked, without names", null=True
                    ),
                ),
                (
                    "pain_now",
                    models.FloatField(blank=True, help_text="pain at referral", null=True),
                ),
                (
                    "can_lie_prone",
                    models.BooleanField(blank=True, help_text="can lie prone", null=True),
                ),
                (
                    "anticoagulant",
                    models.BooleanField(
                        blank=True,
                        help_text="takes an anticoagulant or antiplatelet drug",
                        null=True,
                    ),
                ),
                (
                    "note",
                    models.TextField(
                        blank=True, help_text="anything else, without names", null=True
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        help_text="which lesion",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="referrals",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("referrer_id", ""), _negated=True),
                        name="referrals_referrer_id_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "specialty__in",
                                (
                                    "radiology",
                                    "oncology",
                                    "radiotherapy",
                                    "orthopaedics",
                                    "spinal surgery",
                                    "pain management",
                                    "palliative care",
                                    "other",
                                ),
                            )
                        ),
                        name="referrals_specialty_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("urgency__in", ("routine", "soon", "urgent"))),
                        name="referrals_urgency_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("question", ""), _negated=True),
                        name="referrals_question_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("pain_now__gte", 0)), name="referrals_pain_now_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("pain_now__lte", 10)), name="referrals_pain_now_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("note", ""), _negated=True), name="referrals_note_a"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Step",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("number", models.IntegerField(help_text="first, second, ... step")),
                ("at", models.TextField(help_text="moved: moment, UTC")),
                ("by", models.TextField(help_text="who moved it")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("referred", "referred"),
                            ("selection", "selection"),
                            ("meeting", "meeting"),
                            ("consent", "consent"),
                            ("planning", "planning"),
                            ("ready", "ready"),
                            ("treated", "treated"),
                            ("follow-up", "follow-up"),
                            ("closed", "closed"),
                            ("declined", "declined"),
                        ],
                        help_text="state it is in since",
                        max_length=100,
                    ),
                ),
                (
                    "overridden",
                    models.JSONField(blank=True, help_text="gates that were not open", null=True),
                ),
                (
                    "reason",
                    models.TextField(
                        blank=True,
                        help_text="why they were overridden, or why this step",
                        null=True,
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        help_text="which lesion",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="steps",
                        to="registry.lesion",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("number__gte", 1)), name="steps_number_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("number__lte", 9999)), name="steps_number_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("at", ""), _negated=True), name="steps_at_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("by", ""), _negated=True), name="steps_by_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "state__in",
                                (
                                    "referred",
                                    "selection",
                                    "meeting",
                                    "consent",
                                    "planning",
                                    "ready",
                                    "treated",
                                    "follow-up",
                                    "closed",
                                    "declined",
                                ),
                            )
                        ),
                        name="steps_state_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("reason", ""), _negated=True), name="steps_reason_a"
                    ),
                    models.UniqueConstraint(
                        models.F("lesion"), models.F("number"), name="steps_once"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="SimulationRun",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("uid", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("version", models.PositiveIntegerField(default=1, editable=False)),
                ("run_id", models.TextField(help_text="name of the run")),
                (
                    "plan_number",
                    models.IntegerField(
                        blank=True, help_text="version of the plan it belongs to", null=True
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("plan", "plan"),
                            ("ablation", "ablation"),
                            ("injection", "injection"),
                            ("leak forecast", "leak forecast"),
                            ("strength", "strength"),
                            ("assessment", "assessment"),
                        ],
                        help_text="what was computed",
                        max_length=100,
                    ),
                ),
                (
                    "started_at",
                    models.TextField(blank=True, help_text="started: moment, UTC", null=True),
                ),
                ("seconds", models.FloatField(blank=True, help_text="time it took", null=True)),
                ("seed", models.BigIntegerField(blank=True, help_text="seed", null=True)),
                (
                    "trocar_version",
                    models.TextField(blank=True, help_text="version of trocar", null=True),
                ),
                (
                    "inputs_sha256",
                    models.TextField(blank=True, help_text="hash of its inputs", null=True),
                ),
                (
                    "facts_sha256",
                    models.TextField(
                        blank=True, help_text="hash of the tables of facts it used", null=True
                    ),
                ),
                (
                    "verdict",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("ok", "ok"),
                            ("caution", "caution"),
                            ("stop", "stop"),
                            ("unknown", "unknown"),
                        ],
                        help_text="worst verdict",
                        max_length=100,
                        null=True,
                    ),
                ),
                (
                    "result_sha256",
                    models.TextField(blank=True, help_text="hash of its result's file", null=True),
                ),
                (
                    "summary",
                    models.TextField(
                        blank=True, help_text="what it found, in a sentence", null=True
                    ),
                ),
                (
                    "lesion",
                    models.ForeignKey(
                        help_text="which lesion",
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="runs",
                        to="registry.lesion",
                    ),
                ),
                (
                    "study",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="runs_in",
                        to="registry.study",
                    ),
                ),
            ],
            options={
                "ordering": ["pk"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("run_id", ""), _negated=True), name="runs_run_id_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("plan_number__gte", 1)), name="runs_plan_number_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("plan_number__lte", 9999)), name="runs_plan_number_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "kind__in",
                                (
                                    "plan",
                                    "ablation",
                                    "injection",
                                    "leak forecast",
                                    "strength",
                                    "assessment",
                                ),
                            )
                        ),
                        name="runs_kind_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("started_at", ""), _negated=True),
                        name="runs_started_at_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("seconds__gte", 0)), name="runs_seconds_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("seconds__lte", 10000000)), name="runs_seconds_b"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("seed__gte", 0)), name="runs_seed_a"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("trocar_version", ""), _negated=True),
                        name="runs_trocar_version_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("inputs_sha256", ""), _negated=True),
                        name="runs_inputs_sha256_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("facts_sha256", ""), _negated=True),
                        name="runs_facts_sha256_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("verdict__in", ("ok", "caution", "stop", "unknown"))),
                        name="runs_verdict_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("result_sha256", ""), _negated=True),
                        name="runs_result_sha256_a",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("summary", ""), _negated=True), name="runs_summary_a"
                    ),
                    models.UniqueConstraint(
                        models.F("study"), models.F("run_id"), name="runs_once"
                    ),
                ],
            },
        ),
        migrations.AddConstraint(
            model_name="patient",
            constraint=models.UniqueConstraint(
                models.F("study"), models.F("patient_id"), name="patients_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="lesion",
            constraint=models.UniqueConstraint(
                models.F("study"), models.F("lesion_id"), name="lesions_once"
            ),
        ),
    ]
