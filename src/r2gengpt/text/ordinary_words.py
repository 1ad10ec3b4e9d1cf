"""Words of chest reports that begin with a capital letter and are no names. Knows no medicine."""

import re

_WRITTEN = """
a an the this that these those there here it its is are was were be been has have had no not none nor and or but if
in on at of to from by for with without within as than then also again both each all any some other others another
one two three four five six seven eight nine ten first second third several multiple single few many most much more
less least only once unchanged stable new old recent prior previous previously interval since compared comparison
similar improved improving improvement worsened worsening increased increasing decreased decreasing resolved
resolving persistent residual possible possibly probable probably likely unlikely suspected suspicious questionable
definite definitely clear clearly mild mildly moderate moderately severe severely marked markedly minimal minimally
small large tiny slight slightly subtle gross grossly right left bilateral bilaterally upper lower middle mid basal
basilar apical apex apices base bases medial lateral anterior posterior central peripheral diffuse focal patchy hazy
dense multifocal scattered linear nodular rounded well poorly heart lung lungs pleura pleural chest thorax thoracic
cardiac pulmonary mediastinal mediastinum hilar hilum hila aorta aortic trachea tracheal bronchus bronchial
diaphragm diaphragmatic hemidiaphragm rib ribs clavicle clavicles spine spinal vertebra vertebral bone bones bony
osseous skeletal soft tissue tissues breast breasts abdomen abdominal stomach gastric bowel colon esophagus
esophageal liver spleen shoulder shoulders humerus scapula sternum sternal neck airway airways vascular vessels
vascularity vasculature silhouette contour contours size shape position positions volume volumes shadow shadows
marking markings effusion effusions pneumothorax pneumothoraces consolidation consolidations opacity opacities
opacification atelectasis atelectatic edema oedema pneumonia infiltrate infiltrates infiltration nodule nodules mass
masses lesion lesions cardiomegaly emphysema emphysematous fibrosis fibrotic scar scarring granuloma granulomas
granulomatous calcification calcifications calcified fracture fractures fractured degenerative scoliosis kyphosis
osteophytes osteopenia hernia hiatal thickening enlargement enlarged elevation elevated flattening flattened
hyperinflation hyperinflated hyperexpanded hypoinflated congestion congested congestive failure infection infectious
inflammatory malignancy malignant metastatic metastases metastasis disease process processes abnormality
abnormalities abnormal normal normally unremarkable negative positive acute chronic subacute evidence evident
finding findings impression impressions indication indications conclusion technique exam examination study studies
view views film films radiograph radiographs radiography image images projection portable frontal supine upright
erect semi inspiration inspiratory expiratory rotated rotation tube tubes line lines catheter catheters drain drains
lead leads device devices pacemaker defibrillator valve valves stent stents clip clips wire wires sternotomy surgery
surgical postoperative postsurgical status post endotracheal nasogastric feeding tip tips venous placement placed
terminates projects projecting seen noted visualized identified demonstrated present absent appears appear
appearance shows show showing suggests suggest suggesting suggestive consistent compatible represents represent
representing concerning correlate correlation recommend recommended recommendation follow followup consider
consideration please patient patients age aged male female man woman child infant adult year years due given which
while although however otherwise overall evaluation limited technically between along over under above below near
adjacent around through across up down out off into about after before during may might can could should would will
must do does did cannot exclude excluded excluding rule ruled versus vs per see bibasilar bibasal perihilar
infrahilar suprahilar retrocardiac subsegmental segmental lobar lobe lobes lingula lingular interstitial alveolar
airspace reticular reticulonodular costophrenic cardiophrenic angle angles sulcus sulci blunting blunted biapical
paratracheal subpleural subcutaneous tortuous tortuosity ectasia ectatic atherosclerotic atherosclerosis
dextroscoliosis levoscoliosis spondylosis arthritis osteoarthritis compression deformity deformities wedge healed
remote cavitation cavitary cavity cyst cystic bulla bullae bullous bronchiectasis bronchitis peribronchial cuffing
cephalization redistribution overload fluid fluids fissure fissures loculated layering free air gas subdiaphragmatic
pneumoperitoneum pneumomediastinum lymphadenopathy adenopathy lymph node nodes tuberculosis sarcoidosis aspiration
contusion hemothorax hemorrhage embolism infarct infarction collapse collapsed shift shifted deviation deviated
midline widening widened narrowing foreign body artifact artifacts overlying underlying superimposed nipple skin
fold folds electrode electrodes jugular subclavian vena cava atrium atrial ventricle ventricular carina carinal
innominate azygos cardiomediastinal low high specifically cardio prominent prominence arthritic multilevel streaky
borderline sequela sequelae redemonstration redemonstrated change changes exaggerated vague eventration
cholecystectomy relative relatively calcific considering bronchovascular question note lumbar cervical external
internal apparent hyperlucent numerous tracheostomy gastrostomy cardiopulmonary intact accounting incidental
incidentally extensive hyperexpansion remainder levocurvature dextrocurvature contrast bandlike band partially
partial acromioclavicular pectus ankle enteric descending ascending innumerable unfolding unfolded inferior superior
inferiorly superiorly endplate endplates critical crowded crowding displaced nondisplaced lucent lucency lucencies
currently centered tubular radiopaque coarsened coarse retained subcarinal additionally generalized radiographically
implantable coronary density densities infiltrative pacer leadless subtotal hypertrophic spurring bronchogenic
carcinoma cancer tumor neoplasm neoplastic biopsy resection lobectomy pneumonectomy mastectomy thoracotomy
thoracentesis intubation extubation intubated extubated removal removed replacement replaced repair repaired
insertion inserted advanced withdrawn retracted coiled kinked looped level levels edge edges border borders margin
margins zone zones field fields region regions area areas side sides space spaces greater lesser equal symmetric
asymmetric symmetrical asymmetrical homogeneous heterogeneous irregular smooth spiculated beyond behind towards
toward against upon until whereas because therefore thus hence radiologic clinical clinically history symptoms fever
cough dyspnea pain shortness breath trauma fall emergency urgent routine immediate immediately today yesterday
tomorrow morning evening night xxxx laryngeal unclear accentuated lobulated confluent sclerosis sclerotic masslike
thin thick significantly significant allowing mixed following callus distal proximal osteophyte reduced deformed
interstitium suture sutures radiographic alignment interposition irregularity additional oval chronically shunt
straightening drainage sacrum hip pelvis they possibility bridging epigastric prosthetic prosthesis dual born
"""
_ABBREVIATED = """
pa ap ll rl lat cxr ct mri pet us icu picu nicu ed er picc cvc cvp ng ngt og et ett aicd icd ppm iabp ecmo lvad tavr
tavi cabg svc ivc ij copd chf ards tb hiv rul rml rll lul lll rlq luq llq ruq bipap cpap pfo asd vsd avm pe dvt mi
aml all cml cll id acc dlp cm mm ml kv kvp mas ii iii iv vi
"""
_NAMED_AFTER = (
    r"kerley(?:['’]s)? (?:[abc] )?lines?", r"swan[- ]ganz",
    r"(?:hickman|groshong|broviac|quinton)(?: (?:catheters?|lines?))", r"dobb?hoff", r"port[- ]a[- ]cath",
    r"mediport", r"salem sump", r"harrington rods?", r"ivor[- ]lewis", r"chilaiditi", r"bochdalek", r"morgagni",
    r"ghon", r"ranke", r"pancoast", r"(?:non[- ])?hodgkin(?:['’]?s)? (?:lymphoma|disease)", r"hampton(?:['’]s)? hump",
    r"westermark(?:['’]s)? sign", r"schmorl(?:['’]?s)? nodes?", r"luschka", r"valsalva", r"trendelenburg",
    r"fowler(?:['’]s)? position", r"blalock[- ]taussig", r"fontan", r"nissen fundoplication", r"billroth",
    r"roux[- ]en[- ]y", r"kaposi(?:['’]?s)? sarcoma", r"pneumocystis", r"aspergillus", r"klebsiella",
    r"covid(?:-19)?", r"down(?:['’]?s)? syndrome", r"marfan(?:['’]?s)? syndrome", r"turner(?:['’]?s)? syndrome",
    r"carpentier[- ]edwards", r"starr[- ]edwards", r"greenfield filter", r"amplatzer", r"medtronic", r"hounsfield",
    r"rasmussen(?:['’]s)? aneurysm", r"felson", r"fleischner",
)  # fmt: skip
ORDINARY = frozenset(" ".join((_WRITTEN, _ABBREVIATED)).split())
"""In lower case."""
EPONYMS = re.compile(rf"\b(?:{'|'.join(_NAMED_AFTER)})\b", re.IGNORECASE)
"""Signs, devices and operations that are named after people; their names alone are names."""
